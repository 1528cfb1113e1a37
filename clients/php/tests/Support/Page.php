<?php

declare(strict_types=1);

namespace Doorbell\Tests\Support;

/**
 * A browser's side of a WebSocket (RFC 6455) on a bare socket: what came is what was on the wire.
 */
final class Page
{
    private const WITHIN = 5;

    /** @param resource $stream */
    private function __construct(private $stream)
    {
    }

    /**
     * Opens a WebSocket and, in the plain dialect, says the first message.
     *
     * @param string|null $protocol the subprotocol to offer
     */
    public static function open(Server $server, string $first, ?string $protocol = null): self
    {
        $stream = stream_socket_client("tcp://$server->public", $code, $reason, self::WITHIN);
        if ($stream === false) {
            throw new \RuntimeException("no public listener: $reason");
        }
        stream_set_timeout($stream, self::WITHIN);
        $offer = $protocol === null ? '' : "Sec-WebSocket-Protocol: $protocol\r\n";
        fwrite($stream, "GET /ws HTTP/1.1\r\nHost: $server->public\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            . 'Sec-WebSocket-Key: ' . base64_encode(random_bytes(16)) . "\r\nSec-WebSocket-Version: 13\r\n$offer\r\n");
        $status = (string) fgets($stream);
        $selected = null;
        while (!\in_array($line = fgets($stream), ["\r\n", false], true)) {
            if (stripos($line, 'Sec-WebSocket-Protocol:') === 0) {
                $selected = trim(substr($line, 23));
            }
        }
        if (!str_starts_with($status, 'HTTP/1.1 101') || $selected !== $protocol) {
            throw new NoUpgrade('no upgrade' . ($protocol === null ? '' : " to $protocol") . ': ' . trim($status));
        }
        $page = new self($stream);
        $page->say($first);

        return $page;
    }

    /**
     * Opens a plain page with open identity and waits until the server knows who it is.
     */
    public static function of(Server $server, string $uid): self
    {
        // By their ids, not their number: one of an earlier page may be about to go.
        $ids = static fn (): array => array_column($server->client()->user($uid)->connections, 'id');
        $before = $ids();
        $page = self::open($server, $uid);
        if (!Until::true(static fn (): bool => array_diff($ids(), $before) !== [])) {
            throw new \RuntimeException("the server does not take up $uid");
        }

        return $page;
    }

    public function say(string $text): void
    {
        $mask = random_bytes(4);
        $bytes = \strlen($text);
        $length = $bytes < 126 ? \chr(0x80 | $bytes) : "\xfe" . pack('n', $bytes);
        fwrite($this->stream, "\x81$length$mask" . ($text ^ str_repeat($mask, intdiv($bytes, 4) + 1)));
    }

    /**
     * The next message.
     */
    public function hear(): string
    {
        [$opcode, $payload] = $this->frame();
        if ($opcode !== 1) {
            throw new \RuntimeException("the next frame has opcode $opcode and is no text: " . bin2hex($payload));
        }

        return $payload;
    }

    /**
     * The next message, as JSON.
     *
     * @return array<string, mixed>
     */
    public function hearJson(): array
    {
        return json_decode($this->hear(), true, flags: \JSON_THROW_ON_ERROR);
    }

    /**
     * The code with which the server closes, when it is what comes next.
     */
    public function closeCode(): int
    {
        [$opcode, $payload] = $this->frame();

        return $opcode === 8 ? unpack('n', $payload)[1] : throw new \RuntimeException("no close, but opcode $opcode: $payload");
    }

    public function close(): void
    {
        fclose($this->stream);
    }

    /** @return array{int, string} */
    private function frame(): array
    {
        [$first, $length] = array_values(unpack('C2', $this->bytes(2)));
        $length = match ($length) {
            126 => unpack('n', $this->bytes(2))[1],
            127 => unpack('J', $this->bytes(8))[1],
            default => $length,
        };

        return [$first & 0x0f, $this->bytes($length)];
    }

    private function bytes(int $wanted): string
    {
        $bytes = '';
        while (\strlen($bytes) < $wanted) {
            $more = fread($this->stream, $wanted - \strlen($bytes));
            if ($more === false || $more === '') {
                throw new \RuntimeException("nothing came within " . self::WITHIN . ' s, or the server hung up');
            }
            $bytes .= $more;
        }

        return $bytes;
    }
}
