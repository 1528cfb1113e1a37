<?php

declare(strict_types=1);

namespace Doorbell\Internal;

/**
 * One complete answer.
 *
 * @internal
 */
final class HttpResponse
{
    public function __construct(
        public readonly int $status,
        public readonly string $body,
        public readonly bool $keepAlive,
    ) {
    }

    public function isSuccess(): bool
    {
        return $this->status >= 200 && $this->status < 300;
    }

    /**
     * The problem's `type` and `detail` (RFC 9457), as far as there are any: a proxy in between answers otherwise.
     *
     * @return array{type: string|null, detail: string|null}
     */
    public function problem(): array
    {
        $text = $this->texts();

        return ['type' => $text('type'), 'detail' => $text('detail')];
    }

    /**
     * The stable word for what is wrong with a login, and what was said of it: OAuth's error (RFC 6749 section 5.2) on the
     * public listener, the problem's type on the API's.
     *
     * @return array{reason: string|null, said: string|null}
     */
    public function loginError(): array
    {
        $text = $this->texts();
        $type = $text('type');

        return [
            'reason' => $text('error') ?? ($type === null ? null : preg_replace('/^urn:doorbell:/', '', $type)),
            'said' => $text('error_description') ?? $text('detail'),
        ];
    }

    /** @return \Closure(string): ?string */
    private function texts(): \Closure
    {
        $members = json_decode($this->body, true, 16);

        return static function (string $name) use ($members): ?string {
            $value = \is_array($members) ? ($members[$name] ?? null) : null;
            if (!\is_string($value)) {
                return null;
            }

            // Goes into messages and from there into logs: one line, not endless.
            return substr((string) preg_replace('/[\x00-\x1f\x7f]+/', ' ', $value), 0, 500);
        };
    }
}
