<?php

declare(strict_types=1);

namespace Doorbell\Tests;

use Doorbell\Client;
use Doorbell\Exception\InvalidRequest;
use Doorbell\Exception\Unauthorized;
use Doorbell\Push;
use Doorbell\Tests\Support\NoUpgrade;
use Doorbell\Tests\Support\Page;
use Doorbell\Tests\Support\Until;
use Doorbell\Wait;

/**
 * The HTTP API of the real server, with pages at the receiving end.
 */
final class ClientTest extends RealServerTestCase
{
    /** @dataProvider whatAPageGets */
    #[\PHPUnit\Framework\Attributes\DataProvider('whatAPageGets')]
    public function testPushReachesThePage(mixed $data, string $expected): void
    {
        $page = self::page('reader');
        $result = self::$server->client()->push('reader', $data);

        self::assertSame($expected, $page->hear());
        self::assertTrue($result->reached());
        self::assertSame([1, 1, 0], [$result->connections, $result->written, $result->acked]);
        self::assertMatchesRegularExpression('/^m_\w+$/', $result->id);
        $page->close();
    }

    /** @return iterable<string, array{mixed, string}> */
    public static function whatAPageGets(): iterable
    {
        yield 'a string as itself' => ['扫码成功 "ok"', '扫码成功 "ok"'];
        yield 'an array as JSON' => [['percent' => '88%', 'url' => 'https://e.com/'], '{"percent":"88%","url":"https://e.com/"}'];
        yield 'a list' => [[1, 2], '[1,2]'];
        yield 'an empty object' => [new \stdClass(), '{}'];
        yield 'a float stays a float' => [1.0, '1.0'];
        yield 'null is data' => [null, 'null'];
        yield 'false is data' => [false, 'false'];
        yield 'what says how it is encoded' => [new \ArrayObject(['a' => 'é']), '{"a":"é"}'];
    }

    public function testPushToNobodyIsNoException(): void
    {
        $result = self::$server->client()->push('nobody', 'hello');

        self::assertFalse($result->reached());
        self::assertSame([0, 0], [$result->connections, $result->written]);
    }

    public function testPushToSeveral(): void
    {
        [$first, $second] = [self::page('several-1'), self::page('77')];
        // Keys as array_filter leaves them, and an integer.
        $result = self::$server->client()->push([3 => 'several-1', 9 => 77, 10 => 'several-3'], ['n' => 1]);

        self::assertSame(2, $result->written);
        self::assertSame('{"n":1}', $first->hear());
        self::assertSame('{"n":1}', $second->hear());
    }

    public function testBroadcastReachesEveryPage(): void
    {
        [$first, $second] = [self::page('broadcast-1'), self::page('broadcast-2')];
        $result = self::$server->client()->broadcast('back at six');

        self::assertTrue($result->reached());
        self::assertGreaterThanOrEqual(2, $result->written);
        self::assertSame('back at six', $first->hear());
        self::assertSame('back at six', $second->hear());
    }

    public function testPresenceComesAndGoes(): void
    {
        $client = self::$server->client();
        self::assertFalse($client->isOnline('visitor'));
        self::assertSame([], $client->user('visitor')->connections);

        $page = self::page('visitor');
        $presence = $client->user('visitor');
        self::assertTrue($presence->online);
        self::assertSame('visitor', $presence->uid);
        [$connection] = $presence->connections;
        self::assertSame(['websocket', '127.0.0.1'], [$connection->transport, $connection->address]);
        self::assertNotSame('', $connection->id);
        self::assertEqualsWithDelta(time(), $connection->since, 60);

        $page->close();
        self::assertTrue(Until::true(static fn (): bool => !$client->isOnline('visitor')));
    }

    public function testKickClosesThePage(): void
    {
        $page = self::page('kicked');
        $client = self::$server->client();

        self::assertSame(1, $client->kick('kicked'));
        self::assertSame(3501, $page->closeCode());
        self::assertSame(0, $client->kick('kicked'));
    }

    public function testConnectionsAreListedInPagesAndClosedByName(): void
    {
        $client = self::$server->client();
        $pages = [self::page('listed'), self::page('listed'), self::page('listed')];
        $found = [];
        $cursor = null;
        do {
            $page = $client->connections($cursor, limit: 2, uid: 'listed', transport: 'websocket');
            array_push($found, ...$page->connections);
            $cursor = $page->next;
        } while ($cursor !== null);

        self::assertCount(3, array_unique(array_column($found, 'id')));
        self::assertSame(['listed', 'listed', 'listed'], array_column($found, 'uid'));
        self::assertTrue($client->closeConnection($found[0]->id));
        self::assertTrue(Until::true(static fn (): bool => !$client->closeConnection($found[0]->id)));
        self::assertCount(2, $client->user('listed')->connections);
        foreach ($pages as $page) {
            $page->close();
        }
    }

    public function testAPageThatWaitsIsBound(): void
    {
        $client = self::$server->client();
        $page = Page::open(self::$server, '{"type":"hello"}', 'doorbell.v1');
        $welcome = $page->hearJson();
        self::assertArrayNotHasKey('uid', array_filter($welcome, static fn (mixed $value): bool => $value !== null));

        $bound = $client->bind($welcome['connection'], 'waited');
        self::assertSame([$welcome['connection'], 'waited', 'websocket'], [$bound->id, $bound->uid, $bound->transport]);
        self::assertSame(['welcome', 'waited'], array_values(array_intersect_key($page->hearJson(), ['type' => 1, 'uid' => 1])));
        self::assertSame(1, $client->push('waited', 'hello')->written);
        self::assertSame('hello', $page->hearJson()['data']);
        $page->close();
    }

    public function testWhatCannotBeBoundIsToldApart(): void
    {
        $client = self::$server->client();
        $page = self::page('bound');
        [$connection] = $client->user('bound')->connections;
        foreach ([[$connection->id, 409, 'bound'], ['c_0000000000000000', 404, 'unknown_connection']] as [$id, $status, $type]) {
            try {
                $client->bind($id, 'other');
                self::fail("$id was bound");
            } catch (InvalidRequest $refused) {
                self::assertSame([$status, "urn:doorbell:$type"], [$refused->status, $refused->type]);
            }
        }
        $page->close();
    }

    public function testTheTrailSaysWhatBecameOfAMessage(): void
    {
        $client = self::$server->client();
        $page = self::page('followed');
        $result = $client->push('followed', 'hello', ttl: 0);
        [$connection] = $client->user('followed')->connections;
        [$trail] = $client->trail($result->id);

        self::assertSame('followed', $trail->uid);
        self::assertSame(['accepted', 'written'], array_column($trail->steps, 'step'));
        self::assertSame($connection->id, $trail->steps[1]->connection);
        self::assertEqualsWithDelta(time(), $trail->steps[1]->atMs / 1000, 60);
        [$trail] = $client->trail($client->push('nobody-to-follow', 'hello', ttl: 0)->id, 'nobody-to-follow');
        self::assertSame('absent', $trail->steps[1]->reason);
        self::assertSame([], $client->trail('m_never'));
        $page->close();
    }

    public function testGroups(): void
    {
        $client = self::$server->client();
        $page = self::page('member');

        self::assertTrue($client->joinGroup('room 1/a', 'member'));
        self::assertFalse($client->joinGroup('room 1/a', 'member'));
        self::assertSame(1, $client->pushGroup('room 1/a', ['price' => '12.50'])->written);
        self::assertSame('{"price":"12.50"}', $page->hear());
        self::assertTrue($client->leaveGroup('room 1/a', 'member'));
        self::assertFalse($client->leaveGroup('room 1/a', 'member'));
        self::assertFalse($client->pushGroup('room 1/a', 'gone')->reached());
    }

    /** @dataProvider oddUids */
    #[\PHPUnit\Framework\Attributes\DataProvider('oddUids')]
    public function testAnyUidCanBeNamed(string $uid): void
    {
        $page = self::page($uid);
        $client = self::$server->client();

        self::assertSame($uid, $client->user($uid)->uid);
        self::assertTrue($client->push($uid, 'for you')->reached());
        self::assertSame('for you', $page->hear());
        self::assertTrue($client->joinGroup($uid, $uid));
        self::assertSame(1, $client->kick($uid));
    }

    /** @return iterable<string, array{string}> */
    public static function oddUids(): iterable
    {
        yield 'slashes and what URLs are made of' => ['a/b?c=d#e&f %2F;'];
        yield 'Chinese' => ['用户一'];
        yield 'a space and a line break' => [" \r\n"];
        yield 'dots' => ['..'];
        yield 'a plus' => ['a+b'];
        yield 'digits beyond an integer' => ['12345678901234567890123'];
        yield '128 bytes' => [str_repeat('x', 128)];
    }

    public function testWrongKeyIsUnauthorizedAndNotShown(): void
    {
        $client = new Client('wrong-key-0123456789', 'http://' . self::$server->api);
        try {
            $client->push('u', 'x');
            self::fail('a wrong key worked');
        } catch (Unauthorized $refused) {
            self::assertStringContainsString('api.key', $refused->getMessage());
            self::assertStringNotContainsString('wrong-key', (string) $refused);
        }
    }

    public function testServersRefusalSaysWhy(): void
    {
        $client = self::$server->client();
        try {
            // One byte more than a body may have, whatever the rest is.
            $client->push('u', str_repeat('x', 1_048_576));
            self::fail('too large a body was taken');
        } catch (InvalidRequest $refused) {
            self::assertSame([413, 'urn:doorbell:body_too_large'], [$refused->status, $refused->type]);
            self::assertStringContainsString('limits.body', $refused->getMessage());
        }
        self::assertFalse($client->push('u', 'the client goes on')->reached());
    }

    public function testUnknownCallIsExplained(): void
    {
        $client = new Client(self::$server->key, 'http://' . self::$server->api . '/not/the/api');
        $this->expectException(InvalidRequest::class);
        $this->expectExceptionMessageMatches('~no POST /v1/push.*older than this package, or the url~');
        $client->push('u', 'x');
    }

    public function testCallsShareOneConnection(): void
    {
        $name = 'doorbell_accepted_connections_total{listener="api"}';
        $before = self::$server->metric($name);
        $client = self::$server->client();
        for ($i = 0; $i < 20; $i++) {
            $client->push('nobody', $i);
            $client->isOnline('nobody');
        }
        // One is the client's, the other asked for the metric.
        self::assertSame($before + 2, self::$server->metric($name));
    }

    public function testAForkedProcessOpensItsOwnConnection(): void
    {
        if (!\function_exists('pcntl_fork')) {
            self::markTestSkipped('needs the extension pcntl');
        }
        $client = self::$server->client();
        $client->push('nobody', 'parent');
        $before = self::$server->metric('doorbell_accepted_connections_total{listener="api"}');
        $child = pcntl_fork();
        if ($child === 0) {
            $client->push('nobody', 'child');
            // Without PHPUnit's own end.
            posix_kill(posix_getpid(), \SIGKILL);
        }
        pcntl_waitpid($child, $status);
        $client->push('nobody', 'parent again');
        self::assertSame($before + 2, self::$server->metric('doorbell_accepted_connections_total{listener="api"}'));
    }

    public function testAnIdIsDeliveredOnce(): void
    {
        $page = self::page('once');
        $client = self::$server->client();
        $first = self::newer('`id`', static fn () => $client->push('once', 'one', id: 'order-1'));
        $second = $client->push('once', 'one', id: 'order-1');
        $client->push('once', 'two');

        self::assertEquals($first, $second);
        self::assertSame('order-1', $first->id);
        self::assertSame(['one', 'two'], [$page->hear(), $page->hear()]);
    }

    public function testTtlHoldsForWhoComesLater(): void
    {
        $client = self::$server->client();
        $held = self::newer('`ttl`', static fn () => $client->push('later', 'kept', ttl: 60));

        self::assertFalse($held->reached());
        self::assertSame(1, $held->held);
        self::assertSame(0, $client->push('never', 'not kept', ttl: 0)->held);
    }

    public function testWaitAckedCountsWhatThePageSaid(): void
    {
        $client = self::$server->client();
        try {
            $page = Page::open(self::$server, '{"type":"hello","token":"acker"}', 'doorbell.v1');
            self::assertSame('welcome', $page->hearJson()['type']);
        } catch (NoUpgrade $refused) {
            self::skip('doorbell.v1', $refused->getMessage());
        }
        // A frozen page: it has the message and says nothing.
        $started = microtime(true);
        $frozen = self::newer('`wait`', static fn () => $client->push('acker', ['n' => 1], wait: Wait::Acked, timeoutMs: 200));
        self::assertSame([1, 0], [$frozen->written, $frozen->acked]);
        self::assertGreaterThan(0.15, microtime(true) - $started);
        self::assertSame(['n' => 1], $page->hearJson()['data']);
        self::assertNotNull($frozen->seq);
    }

    public function testWaitWritten(): void
    {
        self::assertFalse(self::$server->client()->push('nobody', 'x', wait: Wait::Written)->reached());
    }

    public function testPushAllAnswersInOrder(): void
    {
        $page = self::page('batch');
        $client = self::$server->client();
        self::assertSame([], $client->pushAll([]));
        $pushes = [
            new Push('batch', 'first'),
            new Push('nobody', 'lost'),
            new Push(['batch', 'nobody'], ['second' => true]),
        ];
        $results = self::newer('batches', static fn () => $client->pushAll($pushes));

        self::assertSame([1, 0, 1], array_map(static fn ($result) => $result->written, $results));
        self::assertSame(['first', '{"second":true}'], [$page->hear(), $page->hear()]);
    }

    public function testOneRefusedPushOfSeveralDoesNotStopTheOthers(): void
    {
        $page = self::page('batch');
        [$refused, $sent] = self::$server->client()->pushAll([
            new Push('batch', 'x', ttl: \PHP_INT_MAX),
            new Push('batch', 'y'),
        ]);

        self::assertSame(400, $refused->refused?->status);
        self::assertStringStartsWith('urn:doorbell:', (string) $refused->refused->type);
        self::assertFalse($refused->reached());
        self::assertNull($sent->refused);
        self::assertSame('y', $page->hear());
    }

    /** @dataProvider whatIsRefusedHere */
    #[\PHPUnit\Framework\Attributes\DataProvider('whatIsRefusedHere')]
    public function testRefusesWhatCannotWorkBeforeItIsSent(\Closure $call, string $message): void
    {
        // Port 9 of a network that is for documentation: reaching for it would take the whole second.
        $client = new Client('key', 'http://192.0.2.1:9');
        $this->expectException(InvalidRequest::class);
        $this->expectExceptionMessageMatches($message);
        $call($client);
    }

    /** @return iterable<string, array{\Closure(Client): mixed, string}> */
    public static function whatIsRefusedHere(): iterable
    {
        yield 'empty uid' => [static fn (Client $c) => $c->push('', 'x'), '/0 bytes; it takes 1 to 128/'];
        yield 'long uid' => [static fn (Client $c) => $c->isOnline(str_repeat('x', 129)), '/129 bytes/'];
        yield 'uid in GBK' => [static fn (Client $c) => $c->push("\xd3\xc3", 'x'), '/not UTF-8/'];
        yield 'one of several' => [static fn (Client $c) => $c->push(['a', ''], 'x'), '/0 bytes/'];
        yield 'data in GBK' => [static fn (Client $c) => $c->push('u', "\xd3\xc3"), '/JSON: Malformed UTF-8/'];
        yield 'infinite data' => [static fn (Client $c) => $c->broadcast(\INF), '/JSON: Inf/'];
        yield 'empty group' => [static fn (Client $c) => $c->joinGroup('', 'u'), '/group has 0 bytes/'];
        yield 'negative ttl' => [static fn (Client $c) => $c->push('u', 'x', ttl: -1), '/ttl is -1/'];
        yield 'empty id' => [static fn (Client $c) => $c->push('u', 'x', id: ''), '/id is empty/'];
        yield 'negative timeout' => [static fn (Client $c) => $c->push('u', 'x', timeoutMs: -1), '/timeoutMs is -1/'];
        yield 'token for no time' => [static fn (Client $c) => $c->createToken('u', 0), '/ttl is 0/'];
        yield 'empty key' => [static fn () => new Client(" \n"), '/key is empty/'];
        yield 'key with a line break' => [static fn () => new Client("a\r\nX-Evil: b"), '/key is empty or has/'];
        yield 'url without scheme' => [static fn () => new Client('k', '127.0.0.1:10003'), '/http:\/\/HOST:PORT/'];
        yield 'url with a secret' => [static fn () => new Client('k', 'http://u:p@127.0.0.1'), '/^(?!.*u:p).*HOST:PORT/'];
        yield 'no time' => [static fn () => new Client('k', timeout: 0.0), '/more than 0/'];
    }
}
