<?php

declare(strict_types=1);

namespace Doorbell;

/**
 * The secret that ties a login to one session (PKCE, RFC 7636, method S256).
 *
 * Keep the verifier in the session and give the page the challenge: a one-time code from any other session is then
 * worth nothing here.
 */
final class Pkce
{
    private function __construct(
        public readonly string $verifier,
        public readonly string $challenge,
    ) {
    }

    public static function create(): self
    {
        $verifier = self::base64url(random_bytes(32));

        return new self($verifier, self::base64url(hash('sha256', $verifier, true)));
    }

    private static function base64url(string $bytes): string
    {
        return rtrim(strtr(base64_encode($bytes), '+/', '-_'), '=');
    }
}
