<?php

declare(strict_types=1);

namespace Doorbell\Internal;

use Doorbell\Exception\InvalidRequest;

/**
 * JSON as the server takes it: compact, UTF-8, a float stays a float.
 *
 * @internal
 */
final class Json
{
    private const FLAGS = \JSON_THROW_ON_ERROR | \JSON_UNESCAPED_UNICODE | \JSON_UNESCAPED_SLASHES | \JSON_PRESERVE_ZERO_FRACTION;

    public static function encode(mixed $value): string
    {
        try {
            return json_encode($value, self::FLAGS);
        } catch (\JsonException $error) {
            throw new InvalidRequest(
                'this cannot be said in JSON: ' . $error->getMessage() . '; give strings in UTF-8 and no resources',
                previous: $error,
            );
        }
    }
}
