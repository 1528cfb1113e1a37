<?php

declare(strict_types=1);

namespace Doorbell\Exception;

/**
 * The result was fetched before. Somebody has what they should not have, so what came of it is ended.
 */
final class LoginUsed extends LoginFailed
{
}
