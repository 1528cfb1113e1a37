<?php

declare(strict_types=1);

namespace Doorbell\Tests;

use Doorbell\Client;
use Doorbell\Exception\InvalidRequest;
use Doorbell\Exception\LoginExpired;
use Doorbell\Exception\LoginPending;
use Doorbell\Exception\LoginRefused;
use Doorbell\Exception\LoginUnknown;
use Doorbell\Exception\LoginUsed;
use Doorbell\Exception\ServerUnavailable;
use Doorbell\Exception\Unauthorized;
use Doorbell\Login;
use Doorbell\LoginAttempt;
use Doorbell\LoginState;
use Doorbell\Pkce;
use Doorbell\Tests\Support\Phone;
use Doorbell\Tests\Support\Server;
use PHPUnit\Framework\TestCase;

/**
 * Logins with the real server; the phone is the site's own app.
 */
final class LoginTest extends TestCase
{
    private const SECRET = 'a-secret-of-the-shop';
    private const CONFIG = <<<'TOML'
        [login]
        created_ttl = "20s"
        [[login.clients]]
        id = "shop"
        name = "Shop"
        secret = "a-secret-of-the-shop"
        providers = ["app"]
        [[login.clients]]
        id = "open"
        name = "No secret"
        providers = ["app"]
        [[login.clients]]
        id = "numbers"
        name = "Numbers"
        providers = ["app"]
        number_match = "to_phone"
        TOML;

    private static Server $server;

    public static function setUpBeforeClass(): void
    {
        self::$server = Server::start(config: self::CONFIG);
    }

    public static function tearDownAfterClass(): void
    {
        self::$server->stop();
    }

    public function testWhoAgreedIsKnownOnceAndOnlyOnce(): void
    {
        $login = self::login();
        $attempt = $login->begin();
        self::assertStringStartsWith('http://' . self::$server->public . '/s/', $attempt->verificationUriComplete);
        self::assertSame('pending', $login->state($attempt)->state);

        self::agree($attempt, 'alice');
        $result = $login->wait($attempt, 5.0);
        self::assertSame(['app', 'alice', 'Alice'], [$result->identity->provider, $result->identity->id, $result->identity->name]);
        self::assertSame('app::alice', $result->identity->key());
        self::assertEqualsWithDelta(time(), $result->at, 5);

        $this->expectException(LoginUsed::class);
        $login->fetch($attempt);
    }

    public function testTheOneTimeCodeNeedsItsOwnVerifier(): void
    {
        $pkce = Pkce::create();
        self::assertMatchesRegularExpression('/^[\w-]{43}$/', $pkce->challenge);
        $login = self::login('open', null);
        [$device, $code] = self::agreedCode('open', $pkce->challenge);
        self::assertNotSame($device, $code);

        try {
            $login->redeem($code, Pkce::create()->verifier);
            self::fail('the verifier of another session was accepted');
        } catch (LoginUnknown $refused) {
            self::assertStringNotContainsString($code, $refused->getMessage());
        }
        self::assertSame('bob', $login->redeem($code, $pkce->verifier)->identity->id);
    }

    public function testOneClientsCodeIsWorthNothingToAnother(): void
    {
        $pkce = Pkce::create();
        [, $code] = self::agreedCode('open', $pkce->challenge);
        $this->expectException(LoginUnknown::class);
        self::login()->redeem($code, $pkce->verifier);
    }

    public function testARefusalIsARefusal(): void
    {
        $login = self::login();
        $attempt = $login->begin();
        $phone = new Phone(self::$server, 'carol');
        self::assertSame(200, $phone->scan($attempt->verificationUriComplete));
        self::assertSame(200, $phone->deny($attempt->verificationUriComplete));
        $this->expectException(LoginRefused::class);
        $login->wait($attempt, 5.0);
    }

    public function testWaitingTellsOfChangesAndEndsInTime(): void
    {
        $login = self::login();
        $attempt = $login->begin();
        (new Phone(self::$server, 'dave'))->scan($attempt->verificationUriComplete);
        $started = microtime(true);
        try {
            $login->wait($attempt, 1.0);
            self::fail('nobody has agreed');
        } catch (LoginPending) {
            self::assertLessThan(4.0, microtime(true) - $started);
        }

        $attempt = $login->begin();
        $seen = [];
        $login->cancel($attempt);
        try {
            $login->wait($attempt, 1.0, static function (LoginState $state) use (&$seen): void {
                $seen[] = $state->state;
            });
            self::fail('it was given up');
        } catch (LoginRefused) {
            self::assertSame('cancelled', $login->state($attempt)->state);
        }
    }

    public function testNobodyComesInTime(): void
    {
        $server = Server::start(config: str_replace('"20s"', '"1s"', self::CONFIG));
        try {
            $login = new Login($server->client(), 'shop', self::SECRET, "http://$server->public");
            $attempt = $login->begin();
            $this->expectException(LoginExpired::class);
            $login->wait($attempt, 10.0);
        } finally {
            $server->stop();
        }
    }

    public function testTheNumberOfTheComputerIsAskedForOnThePhone(): void
    {
        $login = self::login('numbers', null);
        $attempt = $login->begin();
        self::assertMatchesRegularExpression('/^\d\d$/', (string) $attempt->number);
        $phone = new Phone(self::$server, 'erin');
        $phone->scan($attempt->verificationUriComplete);
        $wrong = sprintf('%02d', ((int) $attempt->number + 1) % 100);
        self::assertSame(400, $phone->approve($attempt->verificationUriComplete, $wrong));
        self::assertSame(200, $phone->approve($attempt->verificationUriComplete, $attempt->number));
        self::assertSame('erin', $login->wait($attempt, 5.0)->identity->id);
    }

    public function testARevokedLoginsConnectionsAreClosed(): void
    {
        $login = self::login();
        $attempt = $login->begin();
        self::agree($attempt, 'frank');
        $result = $login->wait($attempt, 5.0);
        self::assertSame('app:frank', $result->uid);
        $page = Support\Page::of(self::$server, (string) $result->uid);

        $login->revoke($result->login);
        self::assertSame(3500, $page->closeCode());
        $login->revoke($result->login);
        $this->expectException(LoginUnknown::class);
        $login->revoke('l_' . str_repeat('0', 22));
    }

    public function testTheComputerIsTheOneThatIsNamed(): void
    {
        $login = self::login();
        $attempt = $login->begin('Table 7', computer: ['user_agent' => "Mozilla/5.0 (Windows NT 10.0) Firefox/132.0\r\nX-Evil: 1"]);
        $page = (string) file_get_contents($attempt->verificationUriComplete, false, stream_context_create([
            'http' => ['header' => 'Accept: application/json'],
        ]));
        $shown = json_decode($page, true);
        self::assertSame(['Firefox', 'Windows'], [$shown['computer']['browser'], $shown['computer']['system']]);
        self::assertSame('Table 7', $shown['binding_message']);
    }

    public function testWrongCredentialsAreToldApart(): void
    {
        try {
            self::login('shop', 'wrong')->begin();
            self::fail('the secret is wrong');
        } catch (Unauthorized $refused) {
            self::assertStringNotContainsString('wrong secret', $refused->getMessage());
        }
        try {
            (new Login(new Client('not-the-key', 'http://' . self::$server->api), 'shop'))->redeem('code', 'verifier');
            self::fail('the key is wrong');
        } catch (Unauthorized $refused) {
            self::assertStringContainsString('API key', $refused->getMessage());
        }
        $this->expectException(LoginUnknown::class);
        self::login()->redeem('no such code', 'verifier');
    }

    public function testWhatCannotWorkIsRefusedBeforeItIsSent(): void
    {
        try {
            (new Login(new Client('key', 'http://127.0.0.1:9'), 'shop', publicUrl: 'http://127.0.0.1:9'))->begin();
            self::fail('nobody listens there');
        } catch (ServerUnavailable $unavailable) {
            self::assertStringContainsString('public listener', $unavailable->getMessage());
        }
        $this->expectException(InvalidRequest::class);
        new Login(new Client('key'), '');
    }

    private static function login(string $client = 'shop', ?string $secret = self::SECRET): Login
    {
        return new Login(self::$server->client(), $client, $secret, 'http://' . self::$server->public);
    }

    private static function agree(LoginAttempt $attempt, string $uid): void
    {
        $phone = new Phone(self::$server, $uid);
        self::assertSame(200, $phone->scan($attempt->verificationUriComplete));
        self::assertSame(200, $phone->approve($attempt->verificationUriComplete));
    }

    /**
     * What a page has once its owner agreed.
     *
     * @return array{string, string} device code and one-time code
     */
    private static function agreedCode(string $client, string $challenge): array
    {
        $public = 'http://' . self::$server->public;
        $begun = self::json("$public/v1/device_authorization", ['method' => 'POST', 'content' => http_build_query([
            'client_id' => $client, 'code_challenge' => $challenge, 'code_challenge_method' => 'S256',
        ]), 'header' => 'Content-Type: application/x-www-form-urlencoded']);
        $phone = new Phone(self::$server, 'bob');
        $phone->scan($begun['verification_uri_complete']);
        $phone->approve($begun['verification_uri_complete']);
        $seen = self::json("$public/v1/login", ['header' => "Authorization: Bearer {$begun['device_code']}"]);

        return [$begun['device_code'], $seen['code']];
    }

    /**
     * @param array<string, string> $options
     *
     * @return array<string, mixed>
     */
    private static function json(string $url, array $options): array
    {
        $body = file_get_contents($url, false, stream_context_create(['http' => $options]));

        return json_decode((string) $body, true, flags: \JSON_THROW_ON_ERROR);
    }
}
