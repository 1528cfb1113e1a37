<?php

declare(strict_types=1);

namespace Doorbell;

/**
 * What became of a message for one uid.
 */
final class Trail
{
    /**
     * @param int|null $seq its number in the uid's sequence, when it has one
     * @param list<TrailStep> $steps oldest first
     */
    public function __construct(
        public readonly string $uid,
        public readonly ?int $seq,
        public readonly array $steps,
    ) {
    }

    /**
     * @internal
     */
    public static function read(Internal\Members $members): self
    {
        return new self(
            $members->string('uid'),
            $members->optionalInt('seq'),
            array_map(TrailStep::read(...), $members->objects('steps')),
        );
    }
}
