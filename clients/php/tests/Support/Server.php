<?php

declare(strict_types=1);

namespace Doorbell\Tests\Support;

use Doorbell\Client;
use Doorbell\TextPort;

/**
 * The real binary on ports of its own, with a data directory of its own.
 */
final class Server
{
    private const READY_WITHIN = 15.0;
    private const STOP_WITHIN = 10.0;

    public readonly string $public;
    public readonly string $text;
    public readonly string $api;
    public readonly string $key;

    /** @param resource $process */
    private function __construct(private $process, public readonly string $data, string $listening)
    {
        preg_match_all('/(\w+)=(\S+)/', $listening, $found, \PREG_SET_ORDER);
        $addresses = array_column($found, 2, 1);
        $this->public = $addresses['public'];
        $this->text = $addresses['text'];
        $this->api = $addresses['api'];
        $this->key = trim((string) file_get_contents("$data/api.key"));
    }

    /**
     * @param array<string, string> $settings environment variables such as DOORBELL_TEXT_KEY
     * @param string|null $config the text of a configuration file
     */
    public static function start(string $identity = 'open', array $settings = [], ?string $config = null): self
    {
        $data = sys_get_temp_dir() . '/doorbell-php-' . bin2hex(random_bytes(8));
        mkdir($data, 0700);
        // The server refuses variables it does not know, and those of these tests are none of its own.
        $environment = array_filter(
            getenv(),
            static fn (string $name): bool => !str_starts_with($name, 'DOORBELL_'),
            \ARRAY_FILTER_USE_KEY,
        );
        $command = [self::binary(), 'serve', '--identity', $identity, '--data-dir', $data];
        if ($config !== null) {
            file_put_contents("$data/doorbell.toml", $config);
            array_push($command, '--config', "$data/doorbell.toml");
        }
        foreach (['public', 'text', 'api'] as $listener) {
            array_push($command, "--$listener", '127.0.0.1:0');
        }
        $log = "$data/log";
        $pipes = [];
        $process = proc_open(
            $command,
            [['file', '/dev/null', 'r'], ['pipe', 'w'], ['file', $log, 'w']],
            $pipes,
            $data,
            $settings + $environment,
        );
        stream_set_blocking($pipes[1], false);
        $said = '';
        $ready = Until::true(static function () use ($pipes, $process, &$said): bool {
            $said .= fread($pipes[1], 4_096);

            return preg_match('/^listening .*\n/m', $said) === 1 || !proc_get_status($process)['running'];
        }, self::READY_WITHIN);
        if (!$ready || preg_match('/^listening .*\n/m', $said, $found) !== 1) {
            $why = (string) file_get_contents($log);
            proc_terminate($process, \SIGKILL);
            proc_close($process);
            self::remove($data);
            throw new \RuntimeException("the server did not start: $why");
        }

        return new self($process, $data, $found[0]);
    }

    public function client(float $timeout = 5.0): Client
    {
        return new Client($this->key, "http://$this->api", timeout: $timeout);
    }

    public function textPort(?string $key = null): TextPort
    {
        return new TextPort($this->text, $key);
    }

    /**
     * The value of a metric, by its name and labels as they are written.
     */
    public function metric(string $name): float
    {
        $metrics = (string) file_get_contents("http://$this->api/metrics");

        return preg_match('/^' . preg_quote($name, '/') . ' (\S+)$/m', $metrics, $found) === 1 ? (float) $found[1] : 0.0;
    }

    public function stop(): void
    {
        proc_terminate($this->process, \SIGTERM);
        $ended = Until::true(fn (): bool => !proc_get_status($this->process)['running'], self::STOP_WITHIN);
        if (!$ended) {
            proc_terminate($this->process, \SIGKILL);
        }
        proc_close($this->process);
        self::remove($this->data);
    }

    public static function binary(): string
    {
        $binary = getenv('DOORBELL_BIN') ?: \dirname(__DIR__, 4) . '/target/debug/doorbell';
        if (!is_executable($binary)) {
            throw new \RuntimeException('no server to test with: run `cargo build`, or set DOORBELL_BIN to a doorbell binary');
        }

        return (string) realpath($binary);
    }

    private static function remove(string $folder): void
    {
        foreach (array_diff((array) scandir($folder), ['.', '..']) as $name) {
            is_dir("$folder/$name") ? self::remove("$folder/$name") : unlink("$folder/$name");
        }
        rmdir($folder);
    }
}
