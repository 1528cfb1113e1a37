<?php

declare(strict_types=1);

namespace Doorbell\Internal;

use Doorbell\Exception\ProtocolError;
use Doorbell\Exception\ServerUnavailable;
use Doorbell\Exception\Timeout;

/**
 * One connection on PHP's own streams: non-blocking, every wait within a deadline, every read within a bound.
 *
 * PHP reports trouble with streams as warnings. They are kept from the application's error handler, which may turn
 * them into exceptions of its own; what they say ends up in the exceptions thrown here.
 *
 * @internal
 */
final class Socket
{
    private const READ_BYTES = 65_536;

    private string $received = '';
    private bool $begun = false;
    private readonly int $process;

    /**
     * @param resource $stream
     */
    private function __construct(private $stream, private readonly string $address)
    {
        $this->process = (int) getmypid();
    }

    /**
     * @param string $address such as `tcp://127.0.0.1:10003`
     * @param float $within seconds; looking a name up is not among them
     * @param string $advice what to do when nobody is there
     */
    public static function connect(string $address, float $within, string $advice): self
    {
        $code = 0;
        $reason = '';
        $stream = self::quietly(static function () use ($address, $within, &$code, &$reason) {
            return stream_socket_client($address, $code, $reason, $within);
        });
        if ($stream === false) {
            // Of a name that does not exist, PHP tells nothing but a warning.
            $reason = $reason === '' ? 'the name cannot be resolved, or TLS failed' : $reason;
            throw new ServerUnavailable("cannot connect to $address: $reason. $advice", false);
        }
        stream_set_blocking($stream, false);
        // The sizes of reads are chosen here; a second buffer would only copy.
        stream_set_read_buffer($stream, 0);
        stream_set_write_buffer($stream, 0);

        return new self($stream, $address);
    }

    /**
     * Whether it can carry one more exchange: nobody hung up, nothing came unasked, and this process opened it.
     */
    public function isUsable(): bool
    {
        if ($this->process !== getmypid() || $this->received !== '') {
            return false;
        }
        $read = [$this->stream];
        $none = null;

        // Readable between two exchanges means the end, or an answer to nothing.
        return self::quietly(static fn () => stream_select($read, $none, $none, 0)) === 0;
    }

    /**
     * Writes all of it.
     *
     * @throws Dropped with `sent` false: the other side ended the connection first
     * @throws Timeout
     */
    public function write(#[\SensitiveParameter] string $bytes, Deadline $deadline): void
    {
        for ($rest = $bytes; $rest !== '';) {
            $rest = substr($rest, $this->writeSome($rest));
            if ($rest !== '') {
                $this->await($deadline, false, true);
            }
        }
    }

    /**
     * Writes what the socket takes now.
     *
     * @return int how many bytes
     *
     * @throws Dropped
     */
    public function writeSome(#[\SensitiveParameter] string $bytes): int
    {
        $written = self::quietly(fn () => fwrite($this->stream, $bytes));
        if ($written === false) {
            throw new Dropped(false, $this->begun);
        }

        return $written;
    }

    /**
     * The next line without its line ending.
     *
     * @throws Dropped|Timeout|ProtocolError the last when the line has more than $bound bytes
     */
    public function line(int $bound, Deadline $deadline): string
    {
        while (($line = $this->lineSoFar($bound)) === null) {
            $this->receive($deadline);
        }

        return $line;
    }

    /**
     * The next line, when it has come.
     */
    public function lineSoFar(int $bound): ?string
    {
        $end = strpos($this->received, "\n");
        if (($end === false ? \strlen($this->received) : $end) > $bound) {
            throw new ProtocolError(
                "the answer of $this->address has a line of more than $bound bytes; check that a Doorbell server listens there",
                true,
            );
        }
        if ($end === false) {
            return null;
        }
        $line = rtrim(substr($this->received, 0, $end), "\r");
        $this->received = substr($this->received, $end + 1);

        return $line;
    }

    /**
     * @throws Dropped|Timeout
     */
    public function exactly(int $bytes, Deadline $deadline): string
    {
        $parts = [];
        for ($missing = $bytes; $missing > \strlen($this->received);) {
            $missing -= \strlen($this->received);
            $parts[] = $this->received;
            $this->received = '';
            $this->receive($deadline);
        }
        $parts[] = substr($this->received, 0, $missing);
        $this->received = substr($this->received, $missing);

        return implode('', $parts);
    }

    /**
     * Everything until the other side ends the connection; null when that is more than $bound bytes.
     *
     * @throws Timeout
     */
    public function toEnd(int $bound, Deadline $deadline): ?string
    {
        $all = '';
        do {
            $all .= $this->received;
            $this->received = '';
            if (\strlen($all) > $bound) {
                return null;
            }
            try {
                $this->receive($deadline);
            } catch (Dropped) {
                return $all;
            }
        } while (true);
    }

    /**
     * Takes in what has come.
     *
     * @return bool whether something had
     *
     * @throws Dropped
     */
    public function receiveSome(): bool
    {
        $bytes = self::quietly(fn () => fread($this->stream, self::READ_BYTES));
        if ($bytes === false || $bytes === '') {
            if ($bytes === false || feof($this->stream)) {
                throw new Dropped(true, $this->begun);
            }

            return false;
        }
        $this->begun = true;
        $this->received .= $bytes;

        return true;
    }

    /**
     * Forgets that something of an answer came: what comes next belongs to the next exchange.
     */
    public function startExchange(): void
    {
        $this->begun = false;
    }

    /**
     * Waits until the socket can be read, or written when asked for.
     *
     * @throws Timeout
     */
    public function await(Deadline $deadline, bool $read, bool $write): void
    {
        if (!$this->ready($deadline->left(), $read, $write)) {
            $seconds = round($deadline->seconds, 3);
            throw new Timeout(
                "$this->address did not answer within $seconds s. Look at the server's load and log, or give the client a longer timeout",
                // While there is something to write, the request is not whole.
                !$write,
            );
        }
    }

    /**
     * @param float $seconds how long to wait at most
     */
    public function ready(float $seconds, bool $read, bool $write): bool
    {
        $deadline = new Deadline($seconds);
        do {
            $readable = $read ? [$this->stream] : null;
            $writable = $write ? [$this->stream] : null;
            $none = null;
            $left = $deadline->left();
            $ready = self::quietly(static fn () => stream_select(
                $readable,
                $writable,
                $none,
                (int) $left,
                (int) (fmod($left, 1.0) * 1e6),
            ));
            // False: a signal came first. The time that is left is waited for, once more at least.
        } while ($ready === false && $left > 0.0);

        return $ready !== false && $ready > 0;
    }

    private function receive(Deadline $deadline): void
    {
        while (!$this->receiveSome()) {
            $this->await($deadline, true, false);
        }
    }

    public function close(): void
    {
        if (\is_resource($this->stream)) {
            fclose($this->stream);
        }
    }

    private static function quietly(\Closure $call): mixed
    {
        set_error_handler(static fn (): bool => true);
        try {
            return $call();
        } finally {
            restore_error_handler();
        }
    }
}
