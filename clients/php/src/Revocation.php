<?php

declare(strict_types=1);

namespace Doorbell;

use Doorbell\Internal\Members;

/**
 * What a revocation of tokens did.
 */
final class Revocation
{
    /**
     * @param int|null $before the uid's tokens issued before this, in Unix seconds, work no more; null when only single
     *                         tokens of it were revoked
     * @param int $closed how many connections were closed
     * @param bool $durable whether it holds over a restart of the server; if not, revoke again after one
     */
    public function __construct(
        public readonly ?int $before,
        public readonly int $closed,
        public readonly bool $durable,
    ) {
    }

    /** @internal */
    public static function read(Members $members): self
    {
        return new self($members->optionalInt('before'), $members->int('closed'), $members->bool('durable'));
    }
}
