<?php

declare(strict_types=1);

namespace Doorbell;

/**
 * What became of one broadcast.
 */
final class BroadcastResult
{
    /**
     * @param int $connections how many connections had named their uid
     * @param int $written how many of them have the message, in their socket or in their queue
     */
    public function __construct(
        public readonly int $connections,
        public readonly int $written,
    ) {
    }

    /**
     * Whether at least one connection has it.
     */
    public function reached(): bool
    {
        return $this->written > 0;
    }
}
