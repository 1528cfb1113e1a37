<?php

declare(strict_types=1);

namespace Doorbell\Exception;

/**
 * There is no result: what the other `Login…` exceptions have in common.
 */
abstract class LoginFailed extends \RuntimeException implements DoorbellException
{
}
