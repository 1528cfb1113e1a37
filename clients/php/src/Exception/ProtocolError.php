<?php

declare(strict_types=1);

namespace Doorbell\Exception;

/**
 * The answer is not what a Doorbell server sends: cut short, larger than the bound, not HTTP, of another shape.
 */
final class ProtocolError extends ExchangeFailed
{
}
