<?php

declare(strict_types=1);

namespace Doorbell\Tests;

use Doorbell\Exception\InvalidRequest;
use Doorbell\Revocation;
use Doorbell\Tests\Support\Page;
use Doorbell\Tests\Support\Until;
use Doorbell\Token;

/**
 * Tokens, against a real server that checks them, issuer and audience too.
 */
final class TokenTest extends RealServerTestCase
{
    private const ISSUER = 'https://www.example.com';

    protected static function how(): array
    {
        return ['token', ['DOORBELL_TOKENS_ISSUER' => self::ISSUER, 'DOORBELL_TOKENS_AUDIENCE' => 'doorbell']];
    }

    /** @dataProvider uids */
    #[\PHPUnit\Framework\Attributes\DataProvider('uids')]
    public function testAMintedTokenLetsThePageIn(string|int $uid): void
    {
        $page = Page::open(self::$server, $this->mint($uid));
        $client = self::$server->client();

        self::assertTrue(Until::true(static fn (): bool => $client->isOnline($uid)));
        self::assertTrue($client->push($uid, 'hello')->reached());
        self::assertSame('hello', $page->hear());
    }

    /** @return iterable<array{string|int}> */
    public static function uids(): iterable
    {
        yield ['uid1'];
        yield [42];
        yield ['用户/"一"'];
    }

    /** @dataProvider refusedTokens */
    #[\PHPUnit\Framework\Attributes\DataProvider('refusedTokens')]
    public function testAnotherTokenIsRefused(\Closure $mint): void
    {
        self::assertSame(3500, Page::open(self::$server, $mint(self::key()))->closeCode());
    }

    /** @return iterable<string, array{\Closure(string): string}> */
    public static function refusedTokens(): iterable
    {
        yield 'another key' => [static fn () => Token::mint(str_repeat('k', 32), 'u', 60, self::ISSUER, 'doorbell')];
        yield 'no issuer' => [static fn (string $key) => Token::mint($key, 'u', 60, null, 'doorbell')];
        yield 'another audience' => [static fn (string $key) => Token::mint($key, 'u', 60, self::ISSUER, 'shop')];
    }

    public function testRevokedTokensAndTheirConnectionsEnd(): void
    {
        $client = self::$server->client();
        $token = $client->createToken('revoked');
        $page = Page::open(self::$server, $token);
        self::assertTrue(Until::true(static fn (): bool => $client->isOnline('revoked')));

        $another = $client->revokeToken('revoked', 'another');
        self::assertEquals(new Revocation(null, 0, true), $another);
        $hourAgo = time() - 3600;
        self::assertEquals(new Revocation($hourAgo, 0, true), $client->revoke('revoked', $hourAgo));
        $all = $client->revoke('revoked');
        self::assertSame([1, true], [$all->closed, $all->durable]);
        self::assertGreaterThan($hourAgo, $all->before);
        self::assertSame(3500, $page->closeCode());
        self::assertSame(3500, Page::open(self::$server, $token)->closeCode());

        $fresh = Page::open(self::$server, $client->createToken('revoked'));
        self::assertTrue(Until::true(static fn (): bool => $client->isOnline('revoked')));
        $fresh->close();
    }

    public function testATokenEndsWhenItSays(): void
    {
        $page = Page::open(self::$server, $this->mint('brief', 1));
        // With identity proved; otherwise it would be 3500.
        self::assertSame(3002, $page->closeCode());
    }

    public function testTheServerMakesTokensToo(): void
    {
        $client = self::$server->client();
        $token = self::newer('POST /v1/tokens', static fn () => $client->createToken('made', 60));
        $page = Page::open(self::$server, $token);

        self::assertTrue(Until::true(static fn (): bool => $client->isOnline('made')));
        unset($page);
    }

    public function testTheClaimsAreTheServersOwn(): void
    {
        [$head, $claims] = array_map(
            static fn (string $part): array => json_decode(base64_decode(strtr($part, '-_', '+/')), true),
            \array_slice(explode('.', $this->mint(7, 60)), 0, 2),
        );
        self::assertSame(['alg' => 'HS256', 'typ' => 'JWT'], $head);
        self::assertSame(['sub', 'exp', 'iat', 'iss', 'aud'], array_keys($claims));
        self::assertSame(['7', 60], [$claims['sub'], $claims['exp'] - $claims['iat']]);
        self::assertEqualsWithDelta(time(), $claims['iat'], 5);
    }

    /** @dataProvider whatIsRefusedHere */
    #[\PHPUnit\Framework\Attributes\DataProvider('whatIsRefusedHere')]
    public function testRefusesWhatNoServerTakes(string $key, string $uid, int $ttl, string $message): void
    {
        try {
            Token::mint($key, $uid, $ttl);
            self::fail('it was minted');
        } catch (InvalidRequest $refused) {
            self::assertMatchesRegularExpression($message, $refused->getMessage());
            self::assertStringNotContainsString($key, (string) $refused);
        }
    }

    /** @return iterable<string, array{string, string, int, string}> */
    public static function whatIsRefusedHere(): iterable
    {
        $key = str_repeat('k', 32);
        yield 'a path for a key' => ['/etc/doorbell/token.key', 'u', 60, '/23 bytes and needs 32.*not its path/'];
        yield 'a PEM key' => ["-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n-----END PRIVATE KEY-----", 'u', 60, '/PEM/'];
        yield 'no uid' => [$key, '', 60, '/0 bytes/'];
        yield 'no time' => [$key, 'u', 0, '/ttl is 0/'];
        yield 'no end' => [$key, 'u', \PHP_INT_MAX, '/ttl is/'];
    }

    private function mint(string|int $uid, int $ttl = 60): string
    {
        return Token::mint(self::key(), $uid, $ttl, self::ISSUER, 'doorbell');
    }

    private static function key(): string
    {
        // As it is read from the file, line break included.
        return (string) file_get_contents(self::$server->data . '/token.key');
    }
}
