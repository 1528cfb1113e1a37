<?php

declare(strict_types=1);

namespace Doorbell\Tests;

use Doorbell\Exception\InvalidRequest;
use Doorbell\Tests\Support\Page;
use Doorbell\Tests\Support\Server;
use PHPUnit\Framework\TestCase;

/**
 * A class of tests against one real server.
 */
abstract class RealServerTestCase extends TestCase
{
    protected static Server $server;

    public static function setUpBeforeClass(): void
    {
        self::$server = Server::start(...static::how());
    }

    public static function tearDownAfterClass(): void
    {
        self::$server->stop();
    }

    /**
     * @return array{0?: string, 1?: array<string, string>} the arguments of {@see Server::start()}
     */
    protected static function how(): array
    {
        return [];
    }

    protected static function page(string $uid): Page
    {
        return Page::of(self::$server, $uid);
    }

    /**
     * Does what older servers refuse; the test is skipped on one of them.
     *
     * @template T
     *
     * @param \Closure(): T $call
     *
     * @return T
     */
    protected static function newer(string $what, \Closure $call): mixed
    {
        try {
            return $call();
        } catch (InvalidRequest $refused) {
            if (!\in_array($refused->status, [400, 404], true)) {
                throw $refused;
            }
            self::skip($what, $refused->getMessage());
        }
    }

    /**
     * DOORBELL_PHP_NO_SKIP=1 makes a failure of it: for those who know that their server has everything.
     */
    protected static function skip(string $what, string $why): never
    {
        $message = "this server does not know $what yet: $why";
        if (getenv('DOORBELL_PHP_NO_SKIP') === '1') {
            self::fail($message);
        }
        self::markTestSkipped($message);
    }
}
