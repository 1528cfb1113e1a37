<?php

declare(strict_types=1);

namespace Doorbell\Exception;

/**
 * No server answers there, it hung up, or it says that it cannot serve now (5xx).
 */
final class ServerUnavailable extends ExchangeFailed
{
}
