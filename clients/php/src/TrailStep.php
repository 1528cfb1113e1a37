<?php

declare(strict_types=1);

namespace Doorbell;

/**
 * One thing that happened to a message.
 */
final class TrailStep
{
    /**
     * @param string $step `accepted`, `held`, `written`, `acked` or `dropped`
     * @param int $atMs when, in milliseconds since 1970
     * @param string|null $connection the connection it is about; null: all of them, or long-polls
     * @param string|null $reason why it was dropped
     */
    public function __construct(
        public readonly string $step,
        public readonly int $atMs,
        public readonly ?string $connection,
        public readonly ?string $reason,
    ) {
    }

    /**
     * @internal
     */
    public static function read(Internal\Members $members): self
    {
        return new self(
            $members->string('step'),
            $members->int('at_ms'),
            $members->optionalString('connection'),
            $members->optionalString('reason'),
        );
    }
}
