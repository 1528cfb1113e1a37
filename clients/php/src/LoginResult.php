<?php

declare(strict_types=1);

namespace Doorbell;

/**
 * Who logged in, as the server gives it out once.
 */
final class LoginResult
{
    /**
     * @param string $login the login's public name; {@see Login::revoke()} takes it for 24 hours
     * @param int $at when its owner agreed, in Unix seconds
     * @param string $ip the computer's address
     * @param string $userAgent what the computer's browser calls itself
     * @param string|null $uid the uid under which this person's pages are pushed to
     */
    public function __construct(
        public readonly string $login,
        public readonly Identity $identity,
        public readonly int $at,
        public readonly string $ip,
        public readonly string $userAgent,
        public readonly ?string $uid,
    ) {
    }

    /**
     * @internal
     */
    public static function read(Internal\Members $members): self
    {
        return new self(
            $members->string('login'),
            Identity::read($members->object('identity')),
            $members->optionalInt('at') ?? 0,
            $members->optionalString('ip') ?? '',
            $members->optionalString('user_agent') ?? '',
            $members->optionalString('uid'),
        );
    }
}
