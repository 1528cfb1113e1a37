<?php

declare(strict_types=1);

namespace Doorbell\Internal;

use Doorbell\Exception\ProtocolError;

/**
 * Reads one HTTP/1.1 response (RFC 9112), whichever way its end is marked, within its bounds.
 *
 * @internal
 */
final class HttpReader
{
    /** One line of a head. The server's own are far shorter; a proxy in between may add some. */
    private const LINE_BYTES = 8_192;
    /** Lines of one head, and of the trailers of a chunked body. */
    private const LINES = 100;
    /** Responses of 1xx before the one that counts. */
    private const INTERIM = 8;

    /**
     * @param int $bound the largest body, in bytes
     */
    public function __construct(
        private readonly Socket $socket,
        private readonly int $bound,
        private readonly Deadline $deadline,
    ) {
    }

    public function read(): HttpResponse
    {
        for ($i = 0; $i < self::INTERIM; $i++) {
            $line = $this->line();
            if (preg_match('~^HTTP/1\.([01]) ([1-9]\d\d)(?: |$)~D', $line, $found) !== 1) {
                throw self::wrong('it is not HTTP');
            }
            $status = (int) $found[2];
            $headers = $this->headers();
            if ($status >= 200) {
                return $this->finish($found[1] === '1', $status, $headers);
            }
            if ($status === 101) {
                break;
            }
        }
        throw self::wrong('the response itself does not come');
    }

    /**
     * @param array<string, string> $headers
     */
    private function finish(bool $modern, int $status, array $headers): HttpResponse
    {
        $keepAlive = $modern && !\in_array('close', $this->tokens($headers['connection'] ?? ''), true);
        if ($status === 204 || $status === 304) {
            return new HttpResponse($status, '', $keepAlive);
        }
        if (isset($headers['transfer-encoding'])) {
            if ($this->tokens($headers['transfer-encoding']) !== ['chunked']) {
                throw self::wrong('its transfer encoding is not known');
            }

            // With both, somebody in between is confused (RFC 9112 section 6.3).
            return new HttpResponse($status, $this->chunks(), $keepAlive && !isset($headers['content-length']));
        }
        if (isset($headers['content-length'])) {
            return new HttpResponse($status, $this->counted($headers['content-length']), $keepAlive);
        }
        $body = $this->socket->toEnd($this->bound, $this->deadline) ?? throw $this->tooLarge();

        return new HttpResponse($status, $body, false);
    }

    /**
     * @return array<string, string> by lower-case name; what comes several times is joined by commas
     */
    private function headers(): array
    {
        $headers = [];
        for ($i = 0; $i < self::LINES; $i++) {
            $line = $this->line();
            if ($line === '') {
                return $headers;
            }
            $colon = strpos($line, ':');
            if ($colon === false || $colon === 0) {
                throw self::wrong('a header has no name');
            }
            $name = strtolower(substr($line, 0, $colon));
            $value = trim(substr($line, $colon + 1), " \t");
            $headers[$name] = isset($headers[$name]) ? "$headers[$name],$value" : $value;
        }
        throw self::wrong('it has too many headers');
    }

    private function counted(string $length): string
    {
        $lengths = array_unique($this->tokens($length));
        // Compared as a float: 18 digits are no integer on a 32-bit platform.
        if (\count($lengths) !== 1 || preg_match('/^\d{1,18}$/D', $lengths[0]) !== 1) {
            throw self::wrong('its length cannot be read');
        }
        if ((float) $lengths[0] > $this->bound) {
            throw $this->tooLarge();
        }

        return $this->socket->exactly((int) $lengths[0], $this->deadline);
    }

    private function chunks(): string
    {
        $body = '';
        while (true) {
            if (preg_match('/^0*([0-9a-f]{1,8})[ \t]*(?:;.*)?$/Di', $this->line(), $found) !== 1) {
                throw self::wrong('the size of a chunk cannot be read');
            }
            $size = hexdec($found[1]);
            if ($size == 0) {
                break;
            }
            if ($size + \strlen($body) > $this->bound) {
                throw $this->tooLarge();
            }
            $body .= $this->socket->exactly((int) $size, $this->deadline);
            if ($this->line() !== '') {
                throw self::wrong('a chunk does not end where it should');
            }
        }
        $this->headers();

        return $body;
    }

    /**
     * @return list<string>
     */
    private function tokens(string $value): array
    {
        return array_map(static fn (string $token): string => strtolower(trim($token, " \t")), explode(',', $value));
    }

    private function line(): string
    {
        return $this->socket->line(self::LINE_BYTES, $this->deadline);
    }

    private function tooLarge(): ProtocolError
    {
        return new ProtocolError(
            "the answer is larger than $this->bound bytes; ask for less at once, or give the client a larger maxResponseBytes",
            true,
        );
    }

    private static function wrong(string $why): ProtocolError
    {
        return new ProtocolError(
            "the answer cannot be understood: $why. Check that the address is the API listener of a Doorbell server (by default http://127.0.0.1:10003)",
            true,
        );
    }
}
