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
        $problem = json_decode($this->body, true, 16);
        $text = static function (string $name) use ($problem): ?string {
            $value = \is_array($problem) ? ($problem[$name] ?? null) : null;
            if (!\is_string($value)) {
                return null;
            }

            // Goes into messages and from there into logs: one line, not endless.
            return substr((string) preg_replace('/[\x00-\x1f\x7f]+/', ' ', $value), 0, 500);
        };

        return ['type' => $text('type'), 'detail' => $text('detail')];
    }
}
