<?php

declare(strict_types=1);

namespace Doorbell\Exception;

/**
 * Nobody agreed in time, or the result was not fetched in time.
 */
final class LoginExpired extends LoginFailed
{
}
