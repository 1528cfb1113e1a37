<?php

declare(strict_types=1);

namespace Doorbell\Exception;

/**
 * The answer did not come in time.
 */
final class Timeout extends ExchangeFailed
{
}
