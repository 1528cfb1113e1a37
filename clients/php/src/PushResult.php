<?php

declare(strict_types=1);

namespace Doorbell;

use Doorbell\Exception\InvalidRequest;

/**
 * What became of one push.
 */
final class PushResult
{
    /**
     * @param string $id the message's name; empty when it was refused
     * @param int|null $seq its number in the mailbox of its uid; null when the server gave none, as for several uids
     * @param int $connections how many connections it was for
     * @param int $written how many of them have it, in their socket or in their queue
     * @param int $acked how many of them said that they have it, when the push waited for that
     * @param int $held for how many uids it is kept until they come
     * @param InvalidRequest|null $refused why it was not even tried, when it was one of several; alone it is thrown
     */
    public function __construct(
        public readonly string $id,
        public readonly ?int $seq,
        public readonly int $connections,
        public readonly int $written,
        public readonly int $acked,
        public readonly int $held,
        public readonly ?InvalidRequest $refused = null,
    ) {
    }

    /**
     * Whether at least one connection has it. A message that is only held has reached nobody yet.
     */
    public function reached(): bool
    {
        return $this->written > 0;
    }

    /**
     * @internal
     */
    public static function read(Internal\Members $members): self
    {
        $type = $members->optionalString('type');
        if ($type !== null) {
            $status = $members->int('status');
            $refused = new InvalidRequest("the server answered $status: {$members->optionalString('detail')}", $status, $type);

            return new self('', null, 0, 0, 0, 0, $refused);
        }

        return new self(
            $members->string('id'),
            $members->optionalInt('seq'),
            $members->int('connections'),
            $members->int('written'),
            $members->optionalInt('acked') ?? 0,
            $members->optionalInt('held') ?? 0,
        );
    }
}
