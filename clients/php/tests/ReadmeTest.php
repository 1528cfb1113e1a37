<?php

declare(strict_types=1);

namespace Doorbell\Tests;

use PHPUnit\Framework\TestCase;

/**
 * The examples of both READMEs: that they are PHP, and that the two files have the same ones.
 */
final class ReadmeTest extends TestCase
{
    public function testExamplesAreSound(): void
    {
        $examples = [];
        foreach (['README.md', 'README.zh-CN.md'] as $name) {
            preg_match_all('/^```php\n(.*?)^```$/ms', (string) file_get_contents(\dirname(__DIR__) . "/$name"), $found);
            self::assertNotEmpty($found[1]);
            foreach ($found[1] as $example) {
                $tokens = \PhpToken::tokenize($example, \TOKEN_PARSE);
                $calls = array_filter($tokens, static fn (\PhpToken $token): bool => $token->is([\T_VARIABLE, \T_STRING]));
                $examples[$name][] = implode(' ', array_map(static fn (\PhpToken $token): string => $token->text, $calls));
            }
        }
        self::assertSame($examples['README.md'], $examples['README.zh-CN.md']);
    }

    public function testTheFirstExampleWorks(): void
    {
        preg_match('/^```php\n(.*?)^```$/ms', (string) file_get_contents(\dirname(__DIR__) . '/README.md'), $found);
        $server = Support\Server::start();
        try {
            $page = Support\Page::of($server, 'uid1');
            $code = strtr($found[1], [
                '/etc/doorbell/api.key' => "$server->data/api.key",
                "__DIR__ . '/vendor/autoload.php'" => var_export(__DIR__ . '/bootstrap.php', true),
            ]);
            $code = str_replace("api.key'))", "api.key'), 'http://$server->api')", $code);
            $file = "$server->data/example.php";
            file_put_contents($file, $code);
            self::assertSame("reached 1 of 1 connections\n", shell_exec(escapeshellarg(\PHP_BINARY) . ' ' . escapeshellarg($file)));
            self::assertSame('{"percent":"88%"}', $page->hear());
        } finally {
            $server->stop();
        }
    }
}
