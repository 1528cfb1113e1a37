<?php

declare(strict_types=1);

namespace Doorbell\Tests;

use Doorbell\Answer;
use Doorbell\Client;
use Doorbell\Exception\DoorbellException;
use Doorbell\Exception\ExchangeFailed;
use Doorbell\Exception\InvalidRequest;
use Doorbell\Exception\ProtocolError;
use Doorbell\Exception\ServerUnavailable;
use Doorbell\Exception\Timeout;
use Doorbell\Exception\Unauthorized;
use Doorbell\Tests\Support\FakeServer;
use Doorbell\TextPort;
use PHPUnit\Framework\TestCase;

/**
 * Servers that are down, slow, broken or none: exceptions that say what to do, and no push sent twice.
 */
final class FailureTest extends TestCase
{
    private const KEY = 'secret-key-0123456789';
    private const PUSHED = '{"id":"m_1","seq":9,"connections":1,"written":1,"acked":0,"held":0}';

    private ?FakeServer $fake = null;

    protected function tearDown(): void
    {
        $this->fake?->stop();
        $this->fake = null;
    }

    public function testServerDown(): void
    {
        $address = self::freeAddress();
        foreach ([fn () => self::client($address)->push('u', 'x'), fn () => (new TextPort($address))->push(['uid' => 'u'])] as $push) {
            $started = microtime(true);
            $failure = self::failure($push);
            self::assertInstanceOf(ServerUnavailable::class, $failure);
            self::assertMatchesRegularExpression('/Connection refused.*Check that the Doorbell server runs/', $failure->getMessage());
            self::assertFalse($failure->mayHaveArrived);
            self::assertLessThan(1.0, microtime(true) - $started);
        }
    }

    public function testAHostThatDoesNotExist(): void
    {
        $failure = self::failure(fn () => self::client('doorbell.invalid:1')->push('u', 'x'));
        self::assertInstanceOf(ServerUnavailable::class, $failure);
        self::assertStringContainsString('doorbell.invalid', $failure->getMessage());
    }

    public function testTheApplicationsErrorHandlerIsLeftAlone(): void
    {
        set_error_handler(static function (int $level, string $message): never {
            throw new \ErrorException($message);
        });
        try {
            self::assertInstanceOf(ServerUnavailable::class, self::failure(fn () => self::client(self::freeAddress())->broadcast(1)));
        } finally {
            restore_error_handler();
        }
    }

    public function testSlowServer(): void
    {
        $address = $this->fake(['request'], ['hang']);
        $started = microtime(true);
        $failure = self::failure(fn () => self::client($address, 0.3)->push('u', 'x', id: 'a'));
        self::assertInstanceOf(Timeout::class, $failure);
        self::assertStringContainsString('did not answer within 0.3 s', $failure->getMessage());
        self::assertTrue($failure->mayHaveArrived);
        self::assertEqualsWithDelta(0.3, microtime(true) - $started, 0.25);
    }

    public function testAServerThatStopsInTheMiddleOfAnAnswer(): void
    {
        $address = $this->fake(['request'], ['send', "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{"], ['hang']);
        self::assertInstanceOf(Timeout::class, self::failure(fn () => self::client($address, 0.3)->push('u', 'x')));
    }

    public function testTheTimeOfAWaitIsAdded(): void
    {
        $address = $this->fake(['request'], ['hang']);
        $started = microtime(true);
        self::assertInstanceOf(
            Timeout::class,
            self::failure(fn () => self::client($address, 0.2)->push('u', 'x', timeoutMs: 300)),
        );
        self::assertEqualsWithDelta(0.5, microtime(true) - $started, 0.25);
    }

    /** @dataProvider brokenAnswers */
    #[\PHPUnit\Framework\Attributes\DataProvider('brokenAnswers')]
    public function testBrokenAnswer(string $answer, string $message): void
    {
        $this->fake = FakeServer::answering($answer);
        $failure = self::failure(fn () => self::client($this->fake->address)->push('u', 'x'));
        self::assertInstanceOf(ProtocolError::class, $failure);
        self::assertMatchesRegularExpression($message, $failure->getMessage());
        self::assertTrue($failure->mayHaveArrived);
    }

    /** @return iterable<string, array{string, string}> */
    public static function brokenAnswers(): iterable
    {
        $ok = "HTTP/1.1 200 OK\r\n";
        yield 'cut in the head' => ["HTTP/1.1 200 OK\r\ncontent-le", '/ended in the middle/'];
        yield 'cut in the body' => ["{$ok}content-length: 99\r\n\r\n{\"id\":", '/ended in the middle/'];
        yield 'cut between chunks' => ["{$ok}transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n", '/ended in the middle/'];
        yield 'cut in a chunk' => ["{$ok}transfer-encoding: chunked\r\n\r\nff\r\n{}", '/ended in the middle/'];
        yield 'a text port' => ["fail\n", '/not HTTP/'];
        yield 'HTTP/2' => ["HTTP/2 200\r\n\r\n", '/not HTTP/'];
        yield 'an endless line' => [str_repeat('x', 20_000), '/line of more than/'];
        yield 'endless headers' => [$ok . str_repeat("a: b\r\n", 200), '/too many headers/'];
        yield 'a header without a name' => ["{$ok}: x\r\n\r\n", '/header has no name/'];
        yield 'two lengths' => ["{$ok}content-length: 2\r\ncontent-length: 3\r\n\r\n{}", '/length cannot be read/'];
        yield 'a negative length' => ["{$ok}content-length: -2\r\n\r\n{}", '/length cannot be read/'];
        yield 'a length beyond integers' => ["{$ok}content-length: 99999999999999999999\r\n\r\n", '/length cannot be read/'];
        yield 'a bad chunk size' => ["{$ok}transfer-encoding: chunked\r\n\r\nzz\r\n", '/size of a chunk/'];
        yield 'a chunk size beyond integers' => ["{$ok}transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n", '/size of a chunk/'];
        yield 'a chunk without its end' => ["{$ok}transfer-encoding: chunked\r\n\r\n2\r\n{}}\r\n0\r\n\r\n", '/chunk does not end/'];
        yield 'gzip' => ["{$ok}transfer-encoding: gzip, chunked\r\n\r\n", '/transfer encoding/'];
        yield 'an upgrade' => ["HTTP/1.1 101 Switching Protocols\r\n\r\n", '/does not come/'];
        yield 'only interim responses' => [str_repeat("HTTP/1.1 100 Continue\r\n\r\n", 20), '/does not come/'];
        yield 'a redirect' => ["HTTP/1.1 302 Found\r\nlocation: http://e.com/\r\ncontent-length: 0\r\n\r\n", '/answered 302.*Check the url/'];
        yield 'no JSON' => ["{$ok}content-length: 5\r\n\r\n<html", '/it is no JSON/'];
        yield 'no object' => ["{$ok}content-length: 1\r\n\r\n1", '/it is no object/'];
        yield 'another shape' => ["{$ok}content-length: 2\r\n\r\n{}", '/`id` is missing/'];
        yield 'a wrong type' => ["{$ok}content-length: 26\r\n\r\n{\"id\":\"m\",\"connections\":{}}", '/cannot be understood/'];
        yield 'a declared giant' => ["{$ok}content-length: 999999999999\r\n\r\n", '/larger than 4194304 bytes/'];
        yield 'a giant chunk' => ["{$ok}transfer-encoding: chunked\r\n\r\n7fffffff\r\n", '/larger than 4194304 bytes/'];
    }

    public function testAnAnswerWithoutEndIsNotReadForever(): void
    {
        foreach (["HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] as $head) {
            $address = $this->fake(['request'], ['send', $head], ['flood', 10_000]);
            $before = memory_get_peak_usage();
            $failure = self::failure(fn () => self::client($address)->push('u', 'x'));
            self::assertInstanceOf(ProtocolError::class, $failure);
            self::assertStringContainsString('larger than 4194304 bytes', $failure->getMessage());
            self::assertLessThan(32 << 20, memory_get_peak_usage() - $before);
            $this->tearDown();
        }
    }

    /** @dataProvider soundAnswers */
    #[\PHPUnit\Framework\Attributes\DataProvider('soundAnswers')]
    public function testEveryWayToMarkTheEnd(string $answer): void
    {
        $this->fake = FakeServer::answering($answer);
        $result = self::client($this->fake->address)->push('u', 'x');
        self::assertSame(['m_1', 9, true], [$result->id, $result->seq, $result->reached()]);
    }

    /** @return iterable<string, array{string}> */
    public static function soundAnswers(): iterable
    {
        $length = \strlen(self::PUSHED);
        [$first, $second] = str_split(self::PUSHED, 40);
        $sizes = [dechex(\strlen($first)), strtoupper(dechex(\strlen($second)))];
        yield 'a length' => ["HTTP/1.1 200 OK\r\nContent-Length: $length\r\n\r\n" . self::PUSHED];
        yield 'the same length twice' => ["HTTP/1.1 200 OK\r\nContent-Length: $length, $length\r\n\r\n" . self::PUSHED];
        yield 'chunks, with an extension and trailers' => [
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n$sizes[0];a=b\r\n$first\r\n00$sizes[1]\r\n$second\r\n0\r\nX: y\r\n\r\n",
        ];
        yield 'the end of the connection' => ["HTTP/1.0 200 OK\r\n\r\n" . self::PUSHED];
        yield 'no reason' => ["HTTP/1.1 200\r\nconnection: close\r\n\r\n" . self::PUSHED];
        yield 'after interim responses' => [
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" . self::PUSHED,
        ];
        yield 'bare line feeds' => ["HTTP/1.1 200 OK\ncontent-length: $length\n\n" . self::PUSHED];
    }

    /** @dataProvider refusals */
    #[\PHPUnit\Framework\Attributes\DataProvider('refusals')]
    public function testRefusals(int $status, string $class, string $body, string $message): void
    {
        $this->fake = FakeServer::answering(self::response($status, $body));
        $failure = self::failure(fn () => self::client($this->fake->address)->push('u', 'x'));
        self::assertInstanceOf($class, $failure);
        self::assertMatchesRegularExpression($message, $failure->getMessage());
        self::assertStringNotContainsString(self::KEY, $failure->getMessage());
        self::assertLessThan(1_000, \strlen($failure->getMessage()));
    }

    /** @return iterable<string, array{int, class-string, string, string}> */
    public static function refusals(): iterable
    {
        yield [401, Unauthorized::class, '{"detail":"send an API key"}', '/401: send an API key/'];
        yield [403, Unauthorized::class, '', '/403/'];
        yield [400, InvalidRequest::class, '{"detail":"no such\nthing"}', '/^the server answered 400: no such thing$/'];
        yield 'a key is not repeated' => [400, InvalidRequest::class, '{"detail":"not ' . self::KEY . '"}', '/not \*\*\*/'];
        yield 'a long text is cut' => [400, InvalidRequest::class, '{"detail":"' . str_repeat('x', 9_000) . '"}', '/x{400}/'];
        yield 'a detail of another type' => [400, InvalidRequest::class, '{"detail":{}}', '/answered 400$/'];
        yield [500, ServerUnavailable::class, '{"detail":"our fault"}', "/500: our fault.*server's log/"];
        yield 'a proxy' => [502, ServerUnavailable::class, '<html>Bad Gateway</html>', '/answered 502/'];
    }

    public function testAPushThatMayHaveArrivedIsNotRepeated(): void
    {
        $this->fake = FakeServer::start([['request'], ['close']], [['request'], ['send', self::response(200)]]);
        $failure = self::failure(fn () => self::client($this->fake->address)->push('u', 'x'));
        self::assertInstanceOf(ServerUnavailable::class, $failure);
        self::assertTrue($failure->mayHaveArrived);
        self::assertStringContainsString('a push with an id can be sent again', $failure->getMessage());
        self::assertCount(1, $this->fake->requests());
    }

    public function testAPushWithAnIdIsRepeatedOnce(): void
    {
        $this->fake = FakeServer::start(
            [['request'], ['send', "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"], ['close']],
            [['request'], ['send', self::response(200)]],
        );
        self::assertTrue(self::client($this->fake->address)->push('u', 'x', id: 'order-1')->reached());
        [$first, $second] = $this->fake->requests();
        self::assertSame($first, $second);
    }

    public function testARepetitionIsTheLastOne(): void
    {
        $end = [['request'], ['close']];
        $this->fake = FakeServer::start($end, $end, $end);
        self::assertInstanceOf(ServerUnavailable::class, self::failure(fn () => self::client($this->fake->address)->isOnline('u')));
        self::assertCount(2, $this->fake->requests());
    }

    public function testAKeptConnectionThatEndedIsReplaced(): void
    {
        $answer = [['request'], ['send', self::response(200)], ['close']];
        $this->fake = FakeServer::start($answer, $answer, $answer);
        $client = self::client($this->fake->address);
        for ($i = 0; $i < 3; $i++) {
            // Without an id: it must not be sent to the old connection and then again.
            self::assertTrue($client->push('u', $i)->reached());
            usleep(50_000);
        }
        self::assertCount(3, $this->fake->requests());
    }

    public function testAnAnswerToNothingIsNotTakenForTheNext(): void
    {
        $this->fake = FakeServer::start(
            [['request'], ['send', self::response(200) . self::response(401)]],
            [['request'], ['send', self::response(200)]],
        );
        $client = self::client($this->fake->address);
        self::assertTrue($client->push('u', 1)->reached());
        self::assertTrue($client->push('u', 2)->reached());
    }

    public function testOnlyWhatWasGivenIsSent(): void
    {
        $this->fake = FakeServer::start([
            ['request'], ['send', self::response(200)], ['request'], ['send', self::response(200)],
            ['request'], ['send', self::response(200, '{"token":"t"}')],
        ]);
        $client = self::client("{$this->fake->address}/behind/a/proxy/");
        $client->push(7, ['a' => 1]);
        $client->push(['a', 'b'], 'x', 0, 'order-1', \Doorbell\Wait::Acked, 250);
        self::assertSame('t', $client->createToken(42, 90));
        [$first, $second, $third] = $this->fake->requests();
        self::assertStringStartsWith("POST /behind/a/proxy/v1/push HTTP/1.1\r\nHost: {$this->fake->address}\r\nAuthorization: Bearer " . self::KEY . "\r\n", $first);
        self::assertStringEndsWith("\r\n\r\n{\"uid\":\"7\",\"data\":{\"a\":1}}", $first);
        self::assertStringEndsWith(
            "\r\n\r\n" . '{"uids":["a","b"],"data":"x","ttl":0,"id":"order-1","wait":"acked","timeout_ms":250}',
            $second,
        );
        self::assertStringEndsWith('{"uid":"42","ttl":90}', $third);
    }

    public function testBatchesOfTheWrongLengthAreNoticed(): void
    {
        $this->fake = FakeServer::answering(self::response(200, '[' . self::PUSHED . ']'));
        $pushes = [new \Doorbell\Push('a', 1), new \Doorbell\Push('b', 2)];
        $failure = self::failure(fn () => self::client($this->fake->address)->pushAll($pushes));
        self::assertInstanceOf(ProtocolError::class, $failure);
        self::assertStringContainsString('2 pushes got 1 answers', $failure->getMessage());
    }

    public function testNoKeyIsEverShown(): void
    {
        $client = self::client(self::freeAddress());
        $port = new TextPort(self::freeAddress(), self::KEY);
        foreach ([$client, $port] as $object) {
            ob_start();
            var_dump($object, (array) $object);
            var_export($object);
            print_r($object);
            self::assertStringNotContainsString(self::KEY, (string) ob_get_clean());
            self::assertInstanceOf(\LogicException::class, self::failure(static fn () => serialize($object)));
        }
        foreach ([fn () => $client->push('u', 1), fn () => $port->push(['uid' => 1])] as $push) {
            $failure = self::failure($push);
            self::assertStringNotContainsString(self::KEY, (string) $failure);
            if (\PHP_VERSION_ID >= 80_200) {
                self::assertStringNotContainsString(self::KEY, print_r($failure->getTrace()[0], true));
            }
        }
    }

    public function testSlowTextPort(): void
    {
        $address = $this->fake(['line'], ['send', "ok\n"], ['hang']);
        $port = new TextPort($address, timeout: 0.3);
        $failure = self::failure(fn () => $port->pushMany([['uid' => 'a'], ['uid' => 'b']]));
        self::assertInstanceOf(Timeout::class, $failure);
        self::assertSame([Answer::Ok], $failure->answers);
        self::assertTrue($failure->mayHaveArrived);
    }

    public function testALateAnswerIsNotTakenForTheNext(): void
    {
        $this->fake = FakeServer::start([['line'], ['hang']], [['line'], ['send', "fail\n"]]);
        $port = new TextPort($this->fake->address, timeout: 0.2);
        self::assertInstanceOf(Timeout::class, self::failure(fn () => $port->push(['uid' => 'a'])));
        self::assertSame(Answer::Fail, $port->push(['uid' => 'b']));
    }

    public function testATextConnectionThatEndedIsReplaced(): void
    {
        $answer = [['line'], ['send', "ok\n"], ['close']];
        $this->fake = FakeServer::start($answer, $answer);
        $port = new TextPort($this->fake->address);
        self::assertSame(Answer::Ok, $port->push(['uid' => 'a']));
        usleep(50_000);
        self::assertSame(Answer::Ok, $port->push(['uid' => 'b']));
        self::assertSame(["{\"uid\":\"a\"}\n", "{\"uid\":\"b\"}\n"], $this->fake->requests());
    }

    public function testALineThatMayHaveArrivedIsNotRepeated(): void
    {
        $this->fake = FakeServer::start([['line'], ['close']], [['line'], ['send', "ok\n"]]);
        $failure = self::failure(fn () => (new TextPort($this->fake->address))->push(['uid' => 'a']));
        self::assertInstanceOf(ServerUnavailable::class, $failure);
        self::assertTrue($failure->mayHaveArrived);
        self::assertCount(1, $this->fake->requests());
    }

    /** @dataProvider noAnswers */
    #[\PHPUnit\Framework\Attributes\DataProvider('noAnswers')]
    public function testWhatIsNoTextPort(string $said): void
    {
        $address = $this->fake(['line'], ['send', $said], ['hang']);
        $failure = self::failure(fn () => (new TextPort($address, timeout: 1.0))->push(['uid' => 'a']));
        self::assertInstanceOf(ProtocolError::class, $failure);
    }

    /** @return iterable<string, array{string}> */
    public static function noAnswers(): iterable
    {
        yield 'HTTP' => ["HTTP/1.1 400 Bad Request\r\n"];
        yield 'another case' => ["OK\n"];
        yield 'an endless line' => [str_repeat('x', 1_000)];
        yield 'two answers to one line' => ["ok\nok\n"];
    }

    /**
     * @param list<mixed> ...$steps of the only connection
     */
    private function fake(array ...$steps): string
    {
        $this->fake = FakeServer::start(array_values($steps));

        return $this->fake->address;
    }

    private static function client(string $address, float $timeout = 5.0): Client
    {
        return new Client(self::KEY, "http://$address", timeout: $timeout);
    }

    private static function response(int $status, string $body = self::PUSHED): string
    {
        return "HTTP/1.1 $status X\r\ncontent-length: " . \strlen($body) . "\r\n\r\n$body";
    }

    private static function freeAddress(): string
    {
        $listener = stream_socket_server('tcp://127.0.0.1:0');
        $address = stream_socket_get_name($listener, false);
        fclose($listener);

        return $address;
    }

    private static function failure(\Closure $call): DoorbellException|ExchangeFailed|\LogicException
    {
        try {
            $call();
        } catch (DoorbellException|\LogicException $failure) {
            return $failure;
        }
        self::fail('it worked');
    }
}
