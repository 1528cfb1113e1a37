<?php

declare(strict_types=1);

namespace Doorbell\Internal;

use Doorbell\Exception\InvalidRequest;
use Doorbell\Exception\ProtocolError;
use Doorbell\Exception\ServerUnavailable;

/**
 * Sends requests to one server over one connection, which is kept for the next request.
 *
 * A request is sent a second time, once, only when the first attempt cannot have been carried out or when carrying it
 * out twice is the same as once.
 *
 * @internal
 */
final class HttpTransport
{
    /** What a server that restarts has before the second attempt, in microseconds. */
    private const PAUSE = 100_000;
    /** Seconds a connection is kept without a request: less than the server's shortest usual patience (10 s). */
    private const IDLE = 5.0;

    private const ADVICE = 'Check that the Doorbell server runs and that this is its %1$s listener (the `listening … %1$s=` line it prints)';

    private readonly string $address;
    private readonly string $host;
    private readonly string $prefix;
    private ?Socket $socket = null;
    private ?Deadline $keptUntil = null;

    /**
     * @param string $url such as `http://127.0.0.1:10003`, a path before the API's own may follow
     * @param float $connectTimeout seconds
     * @param Secret|null $key what every request shows that has nothing of its own to show
     * @param int $bound bytes of the largest response body
     * @param string $listener which of the server's listeners the url should be
     */
    public function __construct(
        string $url,
        private readonly ?Secret $key,
        private readonly float $connectTimeout,
        private readonly int $bound,
        private readonly string $listener = 'api',
    ) {
        $parts = parse_url($url);
        $scheme = strtolower($parts['scheme'] ?? '');
        $valid = $parts !== false && \in_array($scheme, ['http', 'https'], true) && ($parts['host'] ?? '') !== ''
            && preg_match('/[\x00-\x20\x7f]/', $url) === 0;
        if (!$valid || array_intersect_key($parts, ['user' => 0, 'pass' => 0, 'query' => 0, 'fragment' => 0]) !== []) {
            // Not shown: people put keys in URLs.
            throw new InvalidRequest('the url is not one; give it as http://HOST:PORT, such as http://127.0.0.1:10003');
        }
        $port = $parts['port'] ?? ($scheme === 'https' ? 443 : 80);
        $this->host = "{$parts['host']}:$port";
        $this->address = ($scheme === 'https' ? 'tls' : 'tcp') . "://$this->host";
        $this->prefix = rtrim($parts['path'] ?? '', '/');
    }

    /**
     * @param bool $repeatable whether carrying it out twice is the same as once
     * @param float $timeout seconds for everything, both attempts together
     * @param array<string, string> $headers besides those every request has
     *
     * @throws \Doorbell\Exception\ExchangeFailed
     */
    public function send(
        string $method,
        string $path,
        ?string $body,
        bool $repeatable,
        float $timeout,
        #[\SensitiveParameter] array $headers = [],
    ): HttpResponse {
        $deadline = new Deadline($timeout);
        $request = $this->request($method, $path, $body, $headers);
        try {
            return $this->attempt($request, $deadline);
        } catch (Dropped $dropped) {
            if (!$repeatable && $dropped->sent) {
                throw $this->lost($dropped);
            }
        } catch (ServerUnavailable $unavailable) {
            // Only connecting throws this. When it took its whole time, a second attempt would take that again.
            if ($timeout - $deadline->left() >= $this->connectTimeout) {
                throw $unavailable;
            }
        }
        usleep((int) min(self::PAUSE, $deadline->left() * 1e6));
        try {
            return $this->attempt($request, $deadline);
        } catch (Dropped $dropped) {
            throw $this->lost($dropped);
        }
    }

    private function attempt(#[\SensitiveParameter] string $request, Deadline $deadline): HttpResponse
    {
        $socket = $this->connection($deadline);
        // Taken back only after a whole answer: after anything else the two sides may disagree on what comes next.
        $this->socket = null;
        try {
            $socket->startExchange();
            $response = $this->exchange($socket, $request, $deadline);
        } catch (\Throwable $failure) {
            $socket->close();
            throw $failure;
        }
        if ($response->keepAlive) {
            $this->socket = $socket;
            $this->keptUntil = new Deadline(self::IDLE);
        } else {
            $socket->close();
        }

        return $response;
    }

    private function exchange(Socket $socket, #[\SensitiveParameter] string $request, Deadline $deadline): HttpResponse
    {
        $reader = new HttpReader($socket, $this->bound, $deadline);
        try {
            $socket->write($request, $deadline);
        } catch (Dropped $unsent) {
            // A server that refuses a body ends the connection while it is sent; what it said may have arrived.
            try {
                $response = $reader->read();
            } catch (Dropped) {
                throw $unsent;
            }

            return new HttpResponse($response->status, $response->body, false);
        }

        return $reader->read();
    }

    private function connection(Deadline $deadline): Socket
    {
        if ($this->socket !== null) {
            if ($this->keptUntil?->left() > 0.0 && $this->socket->isUsable()) {
                return $this->socket;
            }
            $this->socket->close();
            $this->socket = null;
        }

        $advice = sprintf(self::ADVICE, $this->listener);

        return Socket::connect($this->address, min($this->connectTimeout, $deadline->left()), $advice);
    }

    /** @param array<string, string> $headers */
    private function request(
        string $method,
        string $path,
        #[\SensitiveParameter] ?string $body,
        #[\SensitiveParameter] array $headers,
    ): string {
        if ($this->key !== null) {
            $headers += ['Authorization' => "Bearer {$this->key->reveal()}"];
        }
        $headers += ['Accept' => 'application/json, application/problem+json'];
        $lines = ["$method $this->prefix$path HTTP/1.1", "Host: $this->host"];
        foreach ($headers as $name => $value) {
            // What is taken over from a visitor's request must not become a header of its own.
            $lines[] = "$name: " . preg_replace('/[\x00-\x1f\x7f]+/', ' ', $value);
        }
        if ($body !== null) {
            $lines[] = 'Content-Type: application/json';
            $lines[] = 'Content-Length: ' . \strlen($body);
        }

        return implode("\r\n", $lines) . "\r\n\r\n$body";
    }

    private function lost(Dropped $dropped): ServerUnavailable|ProtocolError
    {
        if ($dropped->begun) {
            return new ProtocolError(
                "the answer of $this->address ended in the middle. Look at the server's log, and at the proxy's if there is one between",
                true,
                [],
                $dropped,
            );
        }

        return new ServerUnavailable(
            "$this->address ended the connection without an answer: it is stopping, or serves as many connections as it may. "
                . ($dropped->sent ? 'The request may have been carried out; a push with an id can be sent again without harm' : 'Nothing was carried out'),
            $dropped->sent,
            [],
            $dropped,
        );
    }
}
