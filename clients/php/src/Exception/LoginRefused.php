<?php

declare(strict_types=1);

namespace Doorbell\Exception;

/**
 * Its owner refused, the number was wrong too often, or the computer gave up.
 */
final class LoginRefused extends LoginFailed
{
}
