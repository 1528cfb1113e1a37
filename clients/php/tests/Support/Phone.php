<?php

declare(strict_types=1);

namespace Doorbell\Tests\Support;

/**
 * A phone that has scanned a code, in the hands of somebody whom the site's own app knows.
 */
final class Phone
{
    public function __construct(private readonly Server $server, private readonly string $uid)
    {
    }

    /** @return int the status */
    public function scan(string $verificationUriComplete): int
    {
        return $this->ask($verificationUriComplete, 'scan', ['name' => ucfirst($this->uid)]);
    }

    public function approve(string $verificationUriComplete, ?string $number = null): int
    {
        return $this->ask($verificationUriComplete, 'approve', array_filter(['name' => ucfirst($this->uid), 'number' => $number]));
    }

    public function deny(string $verificationUriComplete): int
    {
        return $this->ask($verificationUriComplete, 'deny', []);
    }

    /** @param array<string, string> $members */
    private function ask(string $address, string $step, array $members): int
    {
        $qr = basename((string) parse_url($address, \PHP_URL_PATH));
        $context = stream_context_create(['http' => [
            'method' => 'POST',
            'header' => "Authorization: Bearer {$this->server->key}\r\nContent-Type: application/json",
            'content' => json_encode(['uid' => $this->uid] + $members),
            'ignore_errors' => true,
        ]]);
        file_get_contents("http://{$this->server->api}/v1/logins/$qr/$step", false, $context);

        return (int) explode(' ', $http_response_header[0])[1];
    }
}
