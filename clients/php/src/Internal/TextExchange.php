<?php

declare(strict_types=1);

namespace Doorbell\Internal;

use Doorbell\Answer;
use Doorbell\Exception\ProtocolError;

/**
 * Sends lines and reads their answers at the same time: a server whose answers are not read stops reading lines.
 *
 * @internal
 */
final class TextExchange
{
    /** An answer is two to four letters. */
    private const ANSWER_BYTES = 64;
    /** Bytes handed to the socket at once; a longer line goes whole. */
    private const BATCH_BYTES = 65_536;

    /** @var list<Answer> */
    private array $answers = [];
    /** Bytes of all lines that the socket took. */
    private int $handedOver = 0;
    /** Bytes of the lines that were answered. */
    private int $answered = 0;

    /**
     * @param non-empty-list<string> $lines with their line endings
     * @param float $timeout seconds until the first answer, and from each answer to the next
     */
    public function __construct(
        private readonly Socket $socket,
        private readonly array $lines,
        private readonly float $timeout,
    ) {
        $socket->startExchange();
    }

    /**
     * @throws Dropped|\Doorbell\Exception\ExchangeFailed what was answered until then is in {@see answers()}
     */
    public function run(): void
    {
        $deadline = new Deadline($this->timeout);
        $batch = '';
        $next = 0;
        $broken = false;
        while (\count($this->answers) < \count($this->lines)) {
            if ($batch === '' && !$broken) {
                for (; isset($this->lines[$next]) && \strlen($batch) < self::BATCH_BYTES; $next++) {
                    $batch .= $this->lines[$next];
                }
            }
            $moved = 0;
            if ($batch !== '') {
                try {
                    $moved = $this->socket->writeSome($batch);
                } catch (Dropped) {
                    // What was answered before may still be read; its end is then met there.
                    $broken = true;
                    $batch = '';
                }
                $this->handedOver += $moved;
                $batch = substr($batch, $moved);
            }
            $came = $this->socket->receiveSome();
            $before = \count($this->answers);
            $this->takeAnswers();
            if (\count($this->answers) > $before) {
                $deadline = new Deadline($this->timeout);
            } elseif ($moved === 0 && !$came) {
                $this->socket->await($deadline, true, $batch !== '');
            }
        }
    }

    /**
     * @return list<Answer>
     */
    public function answers(): array
    {
        return $this->answers;
    }

    public function firstLine(): string
    {
        return $this->lines[0];
    }

    /**
     * Whether a line without an answer was handed over whole.
     */
    public function mayHaveArrived(): bool
    {
        $next = $this->lines[\count($this->answers)] ?? null;

        return $next !== null && $this->handedOver >= $this->answered + \strlen($next);
    }

    /**
     * Whether the server took no line at all: it discards one whose end did not come.
     */
    public function isUntaken(): bool
    {
        return $this->answers === [] && !$this->mayHaveArrived();
    }

    private function takeAnswers(): void
    {
        while (($line = $this->socket->lineSoFar(self::ANSWER_BYTES)) !== null) {
            $asked = $this->lines[\count($this->answers)] ?? null;
            $answer = Answer::tryFrom($line);
            if ($asked === null || $answer === null) {
                throw new ProtocolError(
                    'the text port gave an answer that is none, or one too many. Check that the address is the text port of a Doorbell server',
                    true,
                );
            }
            $this->answers[] = $answer;
            $this->answered += \strlen($asked);
        }
    }
}
