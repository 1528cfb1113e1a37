<?php

declare(strict_types=1);

namespace Doorbell\Tests\Support;

/**
 * A server that follows a script, in a process of its own: see `fake-server.php` for the steps.
 */
final class FakeServer
{
    public readonly string $address;
    private string $said = '';

    /**
     * @param resource $process
     * @param resource $output
     */
    private function __construct(private $process, private $output)
    {
        Until::true(fn (): bool => str_contains($this->listen(), "\n"));
        $this->address = trim((string) strtok($this->said, "\n"));
    }

    /**
     * @param list<list<mixed>> ...$connections the steps for each connection, in the order they are accepted
     */
    public static function start(array ...$connections): self
    {
        $pipes = [];
        $process = proc_open(
            [\PHP_BINARY, '-n', __DIR__ . '/fake-server.php', base64_encode(serialize($connections))],
            [['file', '/dev/null', 'r'], ['pipe', 'w'], \STDERR],
            $pipes,
        );
        stream_set_blocking($pipes[1], false);

        return new self($process, $pipes[1]);
    }

    /**
     * One that reads a request and answers with these bytes.
     */
    public static function answering(string $bytes): self
    {
        return self::start([['request'], ['send', $bytes], ['close']]);
    }

    /**
     * What was read by the steps `request` and `line` so far.
     *
     * @return list<string>
     */
    public function requests(): array
    {
        $lines = explode("\n", trim($this->listen()));

        return array_map(static fn (string $line): string => (string) base64_decode($line, true), \array_slice($lines, 1));
    }

    public function stop(): void
    {
        proc_terminate($this->process, \SIGKILL);
        proc_close($this->process);
    }

    private function listen(): string
    {
        return $this->said .= stream_get_contents($this->output);
    }
}
