<?php

declare(strict_types=1);

namespace Doorbell\Exception;

/**
 * The login is still under way. Ask again later, or wait for it.
 */
final class LoginPending extends LoginFailed
{
}
