<?php

declare(strict_types=1);

namespace Doorbell\Internal;

/**
 * A moment on the monotonic clock, which nobody sets back.
 *
 * @internal
 */
final class Deadline
{
    private readonly float $at;

    /**
     * @param float $seconds from now
     */
    public function __construct(public readonly float $seconds)
    {
        $this->at = hrtime(true) / 1e9 + $seconds;
    }

    /**
     * Seconds left; 0.0 when it has passed.
     */
    public function left(): float
    {
        return max(0.0, $this->at - hrtime(true) / 1e9);
    }
}
