<?php

declare(strict_types=1);

namespace Doorbell\Exception;

/**
 * The request cannot be carried out as it is, however often it is sent. Nothing was pushed.
 */
final class InvalidRequest extends \InvalidArgumentException implements DoorbellException
{
    /**
     * @param int|null $status the HTTP status; null when the request was refused before it was sent
     * @param string|null $type what the server calls the problem, such as `urn:doorbell:uid`; it is stable, the message
     *                          is not
     */
    public function __construct(
        string $message,
        public readonly ?int $status = null,
        public readonly ?string $type = null,
        ?\Throwable $previous = null,
    ) {
        parent::__construct($message, 0, $previous);
    }
}
