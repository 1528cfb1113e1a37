<?php

declare(strict_types=1);

namespace Doorbell\Internal;

/**
 * The other side ended the connection. Whoever knows what was sent on it makes a public exception of this.
 *
 * @internal
 */
final class Dropped extends \RuntimeException
{
    /**
     * @param bool $sent whether all that was to be written had been written
     * @param bool $begun whether some of the answer had come
     */
    public function __construct(public readonly bool $sent, public readonly bool $begun)
    {
        parent::__construct('the connection was ended by the other side');
    }
}
