<?php

declare(strict_types=1);

namespace Doorbell;

use Doorbell\Exception\ExchangeFailed;
use Doorbell\Exception\InvalidRequest;
use Doorbell\Exception\ProtocolError;
use Doorbell\Exception\ServerUnavailable;
use Doorbell\Exception\Unauthorized;
use Doorbell\Internal\Deadline;
use Doorbell\Internal\Dropped;
use Doorbell\Internal\Json;
use Doorbell\Internal\Secret;
use Doorbell\Internal\Socket;
use Doorbell\Internal\TextExchange;

/**
 * Speaks to a Doorbell server's text port: one JSON object a line, one answer a line. Pages get the line itself, byte
 * for byte.
 *
 * The connection is opened by the first push and kept for the next ones. After any exception it is closed, and the next
 * push opens another. Lines that the server cannot have taken are sent once more; others never are.
 */
final class TextPort
{
    /** What a server that restarts has before the second attempt, in microseconds. */
    private const PAUSE = 100_000;
    /** An answer is two to four letters. */
    private const ANSWER_BYTES = 64;
    /** Seconds in which a server that refuses a first line without a key ends the connection. */
    private const HANG_UP = 0.005;
    /** Shorter lines are too long for no server: the least that `limits.line` can be. */
    private const SHORT_LINE = 1_024;

    private const ADVICE = 'Check that the Doorbell server runs and that this is its text port (the `listening … text=` line it prints)';

    private readonly ?Secret $key;
    private ?Socket $socket = null;

    /**
     * @param string $address HOST:PORT
     * @param string|null $key the server's `text.key`, when it has one; whitespace around it is not part of it
     * @param float $connectTimeout seconds to connect
     * @param float $timeout seconds until the first answer, and from each answer to the next
     *
     * @throws InvalidRequest a parameter that cannot work
     */
    public function __construct(
        private readonly string $address = '127.0.0.1:10002',
        #[\SensitiveParameter] ?string $key = null,
        private readonly float $connectTimeout = 1.0,
        private readonly float $timeout = 5.0,
    ) {
        if (preg_match('~^[^\s/@]+:\d{1,5}$~D', $address) !== 1) {
            throw new InvalidRequest('the address is not one; give it as HOST:PORT, such as 127.0.0.1:10002');
        }
        $key = $key === null ? null : trim($key);
        if ($key !== null && preg_match('/^[\x21-\x7e]+$/D', $key) !== 1) {
            throw new InvalidRequest('the key is empty or has characters that no key has; give the text of text.key, or null when the server has none');
        }
        if ($connectTimeout <= 0 || $timeout <= 0) {
            throw new InvalidRequest('connectTimeout and timeout have to be more than 0');
        }
        $this->key = $key === null ? null : new Secret($key);
    }

    /**
     * Pushes one line.
     *
     * @param array<mixed>|string $line an array with the member `uid`, or a line of JSON as the page is to get it
     *
     * @throws Exception\DoorbellException
     */
    public function push(array|string $line): Answer
    {
        return $this->pushMany([$line])[0];
    }

    /**
     * Pushes many lines without waiting for each answer. All lines are checked before the first is sent.
     *
     * @param iterable<array<mixed>|string> $lines as in {@see push()}
     *
     * @return list<Answer> one for each line, in the same order
     *
     * @throws Exception\DoorbellException when the connection fails in the middle, {@see ExchangeFailed::$answers} has
     *                                     the answers to the first lines; of the line after those it is not known
     *                                     whether it was pushed, nor of later ones
     */
    public function pushMany(iterable $lines): array
    {
        $encoded = [];
        foreach ($lines as $line) {
            $encoded[] = self::encode($line);
        }
        if ($encoded === []) {
            return [];
        }
        try {
            return $this->exchange($encoded);
        } catch (\Throwable $failure) {
            // What comes next on this connection would answer lines nobody waits for any more.
            $this->close();
            throw $failure;
        }
    }

    /**
     * Ends the connection. The next push opens another.
     */
    public function close(): void
    {
        $this->socket?->close();
        $this->socket = null;
    }

    /**
     * @param non-empty-list<string> $lines with their line endings
     *
     * @return list<Answer>
     */
    private function exchange(array $lines): array
    {
        for ($attempt = 1; ; $attempt++) {
            [$socket, $fresh] = $this->connection();
            $exchange = new TextExchange($socket, $lines, $this->timeout);
            try {
                $exchange->run();
                $this->detectMissingKey($socket, $fresh, $exchange);

                return $exchange->answers();
            } catch (Dropped $dropped) {
                $this->close();
                $this->refuseMissingKey($fresh, $exchange);
                if ($attempt === 1 && $exchange->isUntaken()) {
                    continue;
                }
                throw $this->lost($exchange, \count($lines), $dropped);
            } catch (ExchangeFailed $failure) {
                throw $failure->after($exchange->answers(), $exchange->mayHaveArrived());
            }
        }
    }

    /**
     * @return array{Socket, bool} the connection, and whether it is a new one
     */
    private function connection(): array
    {
        if ($this->socket !== null) {
            if ($this->socket->isUsable()) {
                return [$this->socket, false];
            }
            $this->close();
        }
        $connecting = new Deadline($this->connectTimeout);
        try {
            $this->socket = $this->connect();
        } catch (ServerUnavailable $unavailable) {
            if ($connecting->left() === 0.0) {
                throw $unavailable;
            }
            usleep(self::PAUSE);
            $this->socket = $this->connect();
        }

        return [$this->socket, true];
    }

    private function connect(): Socket
    {
        $socket = Socket::connect("tcp://$this->address", $this->connectTimeout, self::ADVICE);
        if ($this->key === null) {
            return $socket;
        }
        $deadline = new Deadline($this->timeout);
        try {
            $socket->write("AUTH {$this->key->reveal()}\n", $deadline);
            $answer = $socket->line(self::ANSWER_BYTES, $deadline);
        } catch (Dropped $dropped) {
            throw new ServerUnavailable(
                "$this->address ended the connection before it answered to the key. " . self::ADVICE,
                false,
                [],
                $dropped,
            );
        } catch (ExchangeFailed $failure) {
            throw $failure->after([], false);
        }

        return match ($answer) {
            'ok' => $socket,
            'fail' => throw new Unauthorized(
                "the text port $this->address refused the key. Check that it is the server's text.key, and give none when the server has none",
            ),
            default => throw new ProtocolError("$this->address gave an answer that is none. " . self::ADVICE, false),
        };
    }

    /**
     * A port with a key answers a first line without one like any push that reaches nobody, and hangs up. Taken for
     * `fail`, a forgotten key would look like a page that is never there.
     */
    private function detectMissingKey(Socket $socket, bool $fresh, TextExchange $exchange): void
    {
        if (!$fresh || $this->key !== null || $exchange->answers() !== [Answer::Fail]) {
            return;
        }
        if ($socket->ready(self::HANG_UP, true, false)) {
            try {
                $socket->receiveSome();
            } catch (Dropped) {
                $this->close();
                $this->refuseMissingKey($fresh, $exchange);
            }
        }
    }

    private function refuseMissingKey(bool $fresh, TextExchange $exchange): void
    {
        $first = $exchange->firstLine();
        $plausible = $fresh && $this->key === null && $exchange->answers() === [Answer::Fail];
        if ($plausible && $first[0] === '{' && \strlen($first) < self::SHORT_LINE) {
            throw new Unauthorized(
                "the text port $this->address refused the first line and hung up, as it does when it has a key: give the server's text.key",
            );
        }
    }

    private function lost(TextExchange $exchange, int $lines, Dropped $dropped): ServerUnavailable
    {
        $answered = \count($exchange->answers());

        return new ServerUnavailable(
            "$this->address ended the connection after $answered of $lines answers: it is stopping, or a line is longer than its limits.line (1 MiB by default)",
            $exchange->mayHaveArrived(),
            $exchange->answers(),
            $dropped,
        );
    }

    /**
     * @param array<mixed>|string $line
     */
    private static function encode(array|string $line): string
    {
        if (\is_array($line)) {
            if (!isset($line['uid'])) {
                throw new InvalidRequest("the array has no member 'uid', which says whom the push is for");
            }
            $line = Json::encode($line);
        }
        // The server takes all of these off the end.
        $line = rtrim($line, "\r\n");
        if (str_contains($line, "\n")) {
            throw new InvalidRequest('the line has a line break in the middle, so it would be several; encode it without JSON_PRETTY_PRINT');
        }

        return "$line\n";
    }
}
