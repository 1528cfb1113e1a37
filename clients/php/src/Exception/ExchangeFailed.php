<?php

declare(strict_types=1);

namespace Doorbell\Exception;

use Doorbell\Answer;

/**
 * A request whose end is not known as it should be: what {@see ServerUnavailable}, {@see Timeout} and
 * {@see ProtocolError} have in common.
 */
abstract class ExchangeFailed extends \RuntimeException implements DoorbellException
{
    /**
     * @param bool $mayHaveArrived whether the server may have carried the request out in spite of the exception. When
     *                             false, asking again cannot push anything twice
     * @param list<Answer> $answers what {@see \Doorbell\TextPort::pushMany()} had been answered before, in order
     */
    final public function __construct(
        string $message,
        public readonly bool $mayHaveArrived,
        public readonly array $answers = [],
        ?\Throwable $previous = null,
    ) {
        parent::__construct($message, 0, $previous);
    }

    /**
     * The same failure with what had been answered before it.
     *
     * @internal
     *
     * @param list<Answer> $answers
     */
    public function after(array $answers, bool $mayHaveArrived): static
    {
        return new static($this->getMessage(), $mayHaveArrived, $answers, $this);
    }
}
