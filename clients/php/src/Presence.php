<?php

declare(strict_types=1);

namespace Doorbell;

/**
 * Whether somebody is there, and on what.
 */
final class Presence
{
    /**
     * @param list<Connection> $connections
     */
    public function __construct(
        public readonly string $uid,
        public readonly bool $online,
        public readonly array $connections,
    ) {
    }
}
