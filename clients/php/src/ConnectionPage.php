<?php

declare(strict_types=1);

namespace Doorbell;

/**
 * A page of the list of connections.
 */
final class ConnectionPage
{
    /**
     * @param list<Connection> $connections
     * @param string|null $next the cursor of the following page; null: this is the last
     */
    public function __construct(
        public readonly array $connections,
        public readonly ?string $next,
    ) {
    }
}
