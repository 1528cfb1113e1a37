<?php

declare(strict_types=1);

namespace Doorbell;

/**
 * Where a login stands.
 */
final class LoginState
{
    /**
     * @param string $state `pending`, `scanned`, `approved`, `denied`, `expired`, `cancelled` or `consumed`
     * @param int $version raised by every change
     * @param int $expiresIn seconds until the state ends by itself
     * @param string|null $verificationUriComplete the text of the QR code in force; while pending
     * @param string|null $name the first letter of who scanned
     * @param bool $released whether the result can be fetched
     */
    public function __construct(
        public readonly string $state,
        public readonly int $version,
        public readonly int $expiresIn,
        public readonly ?string $verificationUriComplete,
        public readonly ?string $name,
        public readonly bool $released,
    ) {
    }

    /**
     * Whether nothing more will happen, but for the result being fetched.
     */
    public function isOver(): bool
    {
        return $this->released || !\in_array($this->state, ['pending', 'scanned', 'approved'], true);
    }

    /**
     * @internal
     */
    public static function read(Internal\Members $members): self
    {
        return new self(
            $members->string('state'),
            $members->int('version'),
            $members->optionalInt('expires_in') ?? 0,
            $members->optionalString('verification_uri_complete'),
            $members->optionalString('name'),
            $members->optionalString('code') !== null,
        );
    }
}
