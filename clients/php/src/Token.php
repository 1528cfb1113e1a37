<?php

declare(strict_types=1);

namespace Doorbell;

use Doorbell\Exception\InvalidRequest;
use Doorbell\Internal\Json;
use Doorbell\Internal\Uid;

/**
 * Tokens with which a page proves its uid (JWT, RFC 7519), made here instead of by the server.
 */
final class Token
{
    /** The shortest key the server takes, in bytes. */
    private const KEY_BYTES = 32;

    /**
     * Makes a token, signed with HS256, without any call.
     *
     * @param string $keyText the text of `token.key`, or of the server's `tokens.key`; it is used as text, not decoded,
     *                        and whitespace around it is not part of it
     * @param int $ttl seconds it is good for; the connection it opened is closed when they are over
     * @param string|null $issuer when the server's `tokens.issuer` is set, the same
     * @param string|null $audience when the server's `tokens.audience` is set, the same
     *
     * @throws InvalidRequest the key is too short or of another kind, the uid is not one, the ttl is under a second
     */
    public static function mint(
        #[\SensitiveParameter] string $keyText,
        string|int $uid,
        int $ttl = 3600,
        ?string $issuer = null,
        ?string $audience = null,
    ): string {
        $key = trim($keyText);
        if (str_starts_with($key, '-----BEGIN')) {
            throw new InvalidRequest('this is a PEM key, and HS256 takes a shared secret; have the server make the token: Client::createToken()');
        }
        if (\strlen($key) < self::KEY_BYTES) {
            throw new InvalidRequest(sprintf(
                'the token key has %d bytes and needs %d; give the text of token.key in the server\'s data directory, not its path',
                \strlen($key),
                self::KEY_BYTES,
            ));
        }
        $now = time();
        if ($ttl < 1 || $ttl > \PHP_INT_MAX - $now) {
            throw new InvalidRequest("the ttl is $ttl; give at least 1 second, and an end that can be written down");
        }
        // `sub` has to be a string, also for a number.
        $claims = ['sub' => Uid::check($uid), 'exp' => $now + $ttl, 'iat' => $now];
        if ($issuer !== null) {
            $claims['iss'] = $issuer;
        }
        if ($audience !== null) {
            $claims['aud'] = $audience;
        }
        $signed = self::base64url('{"alg":"HS256","typ":"JWT"}') . '.' . self::base64url(Json::encode($claims));

        return "$signed." . self::base64url(hash_hmac('sha256', $signed, $key, true));
    }

    private static function base64url(string $bytes): string
    {
        return rtrim(strtr(base64_encode($bytes), '+/', '-_'), '=');
    }
}
