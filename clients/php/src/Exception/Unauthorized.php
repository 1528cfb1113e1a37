<?php

declare(strict_types=1);

namespace Doorbell\Exception;

/**
 * The key is missing, wrong or has expired. Nothing was pushed.
 */
final class Unauthorized extends \RuntimeException implements DoorbellException
{
}
