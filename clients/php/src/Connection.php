<?php

declare(strict_types=1);

namespace Doorbell;

/**
 * One live connection of a browser.
 */
final class Connection
{
    /**
     * @param string $transport such as `websocket`
     * @param string $dialect such as `plain`; empty when the server does not say
     * @param string $address where it comes from, as the server sees it
     * @param int $since when it opened, in Unix seconds
     * @param string|null $uid whose it is; null while it has not said so, or waits to be bound
     */
    public function __construct(
        public readonly string $id,
        public readonly string $transport,
        public readonly string $dialect,
        public readonly string $address,
        public readonly int $since,
        public readonly ?string $uid = null,
    ) {
    }

    /**
     * @internal
     */
    public static function read(Internal\Members $members): self
    {
        return new self(
            $members->string('id'),
            $members->string('transport'),
            $members->optionalString('dialect') ?? '',
            $members->optionalString('address') ?? '',
            $members->int('since'),
            $members->optionalString('uid'),
        );
    }
}
