<?php

declare(strict_types=1);

namespace Doorbell\Internal;

use Doorbell\Exception\InvalidRequest;

/**
 * The rule for uids and group names: 1 to 128 bytes of UTF-8.
 *
 * @internal
 */
final class Uid
{
    public static function check(string|int $uid): string
    {
        return self::name('uid', (string) $uid);
    }

    public static function group(string|int $group): string
    {
        return self::name('group', (string) $group);
    }

    private static function name(string $what, string $name): string
    {
        $bytes = \strlen($name);
        if ($bytes < 1 || $bytes > 128) {
            throw new InvalidRequest("the $what has $bytes bytes; it takes 1 to 128");
        }
        if (preg_match('//u', $name) !== 1) {
            throw new InvalidRequest("the $what is not UTF-8; convert it with mb_convert_encoding()");
        }

        return $name;
    }
}
