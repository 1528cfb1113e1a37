<?php

declare(strict_types=1);

namespace Doorbell\Tests\Support;

/**
 * Waits for what another process is about to do.
 */
final class Until
{
    /**
     * @param \Closure(): bool $condition
     *
     * @return bool whether it came true in time
     */
    public static function true(\Closure $condition, float $seconds = 5.0): bool
    {
        for ($end = microtime(true) + $seconds; microtime(true) < $end; usleep(5_000)) {
            if ($condition()) {
                return true;
            }
        }

        return $condition();
    }
}
