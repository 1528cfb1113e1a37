<?php

declare(strict_types=1);

namespace Doorbell\Tests;

use Doorbell\Answer;
use Doorbell\Exception\InvalidRequest;
use Doorbell\Exception\ServerUnavailable;
use Doorbell\Exception\Unauthorized;
use Doorbell\TextPort;

/**
 * The text port of the real server, with pages at the receiving end.
 */
final class TextPortTest extends RealServerTestCase
{
    public function testPushSaysWhetherSomebodyHasIt(): void
    {
        $page = self::page('uid1');
        $port = self::$server->textPort();

        self::assertSame(Answer::Ok, $port->push(['uid' => 'uid1', 'percent' => '88%']));
        self::assertSame('{"uid":"uid1","percent":"88%"}', $page->hear());
        self::assertSame(Answer::Fail, $port->push(['uid' => 'nobody']));
        self::assertSame(Answer::Ok, $port->push(['uid' => 'uid1', '名' => '成功/"']));
        self::assertSame('{"uid":"uid1","名":"成功/\""}', $page->hear());
    }

    public function testALineArrivesByteForByte(): void
    {
        $page = self::page('exact');
        $line = '{ "b":1.50, "uid" : "exact", "b":"\u4e2d" }';

        self::assertSame(Answer::Ok, self::$server->textPort()->push("$line\r\n"));
        self::assertSame($line, $page->hear());
    }

    public function testManyAnswersComeInOrder(): void
    {
        $page = self::page('many');
        $lines = $expected = [];
        for ($i = 0; $i < 20_000; $i++) {
            $there = $i % 100 === 7;
            $lines[] = ['uid' => $there ? 'many' : "absent-$i", 'n' => $i];
            $expected[] = $there ? Answer::Ok : Answer::Fail;
        }
        $port = self::$server->textPort();
        self::assertSame($expected, $port->pushMany($lines));
        for ($i = 7; $i < 20_000; $i += 100) {
            self::assertSame($i, $page->hearJson()['n']);
        }
        self::assertSame([], $port->pushMany([]));
    }

    public function testLongLines(): void
    {
        $page = self::page('long');
        $line = ['uid' => 'long', 'text' => str_repeat('x', 400_000)];

        self::assertSame([Answer::Ok, Answer::Ok], self::$server->textPort()->pushMany([$line, $line]));
        self::assertSame($line, $page->hearJson());
        self::assertSame($line, $page->hearJson());
    }

    public function testPushesShareOneConnection(): void
    {
        $name = 'doorbell_accepted_connections_total{listener="text"}';
        $before = self::$server->metric($name);
        $port = self::$server->textPort();
        for ($i = 0; $i < 20; $i++) {
            $port->push(['uid' => 'nobody']);
        }
        self::assertSame($before + 1, self::$server->metric($name));
        $port->close();
        $port->push(['uid' => 'nobody']);
        self::assertSame($before + 2, self::$server->metric($name));
    }

    public function testAnOverlongLineEndsTheConnectionAndIsTold(): void
    {
        $port = self::$server->textPort();
        $short = ['uid' => 'nobody'];
        try {
            $port->pushMany([$short, ['uid' => 'u', 'text' => str_repeat('x', 2_000_000)], $short]);
            self::fail('the third line was answered');
        } catch (ServerUnavailable $lost) {
            self::assertSame([Answer::Fail, Answer::Fail], $lost->answers);
            self::assertStringContainsString('after 2 of 3 answers', $lost->getMessage());
        }
        self::assertSame(Answer::Fail, $port->push($short));
    }

    public function testAPortWithAKey(): void
    {
        $key = 'text-key-0123456789';
        $server = Support\Server::start('open', ['DOORBELL_TEXT_KEY' => $key]);
        try {
            $page = Support\Page::of($server, 'uid1');
            self::assertSame(Answer::Ok, $server->textPort("$key\n")->push(['uid' => 'uid1', 'n' => 1]));
            self::assertSame('{"uid":"uid1","n":1}', $page->hear());
            self::assertSame(
                [Answer::Fail, Answer::Ok],
                $server->textPort($key)->pushMany([['uid' => 'nobody'], ['uid' => 'uid1']]),
            );
            foreach (['another-key-012345', null] as $wrong) {
                foreach ([1, 3] as $lines) {
                    try {
                        $server->textPort($wrong)->pushMany(array_fill(0, $lines, ['uid' => 'uid1']));
                        self::fail('it was let in');
                    } catch (Unauthorized $refused) {
                        self::assertStringContainsString('text.key', $refused->getMessage());
                        self::assertStringNotContainsString('another-key', (string) $refused);
                    }
                }
            }
        } finally {
            $server->stop();
        }
    }

    public function testAKeyForAPortWithoutOne(): void
    {
        $this->expectException(Unauthorized::class);
        $this->expectExceptionMessageMatches('/give none when the server has none/');
        self::$server->textPort('text-key-0123456789')->push(['uid' => 'u']);
    }

    public function testHeldIsAnAnswer(): void
    {
        try {
            $server = Support\Server::start('open', ['DOORBELL_TEXT_HOLD' => '30s']);
        } catch (\RuntimeException $refused) {
            self::skip('`text.hold`', trim($refused->getMessage()));
        }
        try {
            self::assertSame(Answer::Held, $server->textPort()->push(['uid' => 'away']));
        } finally {
            $server->stop();
        }
    }

    /** @dataProvider whatIsRefusedHere */
    #[\PHPUnit\Framework\Attributes\DataProvider('whatIsRefusedHere')]
    public function testRefusesWhatCannotWorkBeforeItIsSent(\Closure $call, string $message): void
    {
        $this->expectException(InvalidRequest::class);
        $this->expectExceptionMessageMatches($message);
        $call(new TextPort('192.0.2.1:9'));
    }

    /** @return iterable<string, array{\Closure(TextPort): mixed, string}> */
    public static function whatIsRefusedHere(): iterable
    {
        yield 'two lines in one' => [static fn (TextPort $p) => $p->push("{\"uid\":\n1}"), '/line break in the middle/'];
        yield 'an array for nobody' => [static fn (TextPort $p) => $p->push(['user' => 1]), "/no member 'uid'/"];
        yield 'the second of many' => [static fn (TextPort $p) => $p->pushMany([['uid' => 1], []]), "/no member 'uid'/"];
        yield 'not UTF-8' => [static fn (TextPort $p) => $p->push(['uid' => "\xff"]), '/UTF-8/'];
        yield 'no port' => [static fn () => new TextPort('127.0.0.1'), '/HOST:PORT/'];
        yield 'a key of two lines' => [static fn () => new TextPort(key: "a\nb"), '/key is empty or has/'];
        yield 'no time' => [static fn () => new TextPort(timeout: 0.0), '/more than 0/'];
    }
}
