<?php

declare(strict_types=1);

namespace Doorbell;

/**
 * A login that was begun from here and waits for a phone.
 */
final class LoginAttempt
{
    /**
     * @param string $deviceCode the secret that the result is fetched with; never in a URL, a QR code or a log
     * @param string $userCode what to type where a phone cannot scan
     * @param string $verificationUri where to type it
     * @param string $verificationUriComplete the text of the QR code; it changes, see {@see Login::state()}
     * @param int $expiresIn seconds
     * @param string|null $number two digits to show, which the phone has to type
     * @param string $verifier of PKCE; as secret as the device code
     */
    public function __construct(
        #[\SensitiveParameter] public readonly string $deviceCode,
        public readonly string $userCode,
        public readonly string $verificationUri,
        public readonly string $verificationUriComplete,
        public readonly int $expiresIn,
        public readonly ?string $number,
        #[\SensitiveParameter] public readonly string $verifier,
    ) {
    }

    /**
     * @internal
     */
    public static function read(Internal\Members $members, #[\SensitiveParameter] string $verifier): self
    {
        return new self(
            $members->string('device_code'),
            $members->string('user_code'),
            $members->string('verification_uri'),
            $members->string('verification_uri_complete'),
            $members->int('expires_in'),
            $members->optionalString('number'),
            $verifier,
        );
    }
}
