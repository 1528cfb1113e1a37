<?php

declare(strict_types=1);

namespace Doorbell\Exception;

/**
 * Everything this package throws. No message contains a key or a token.
 */
interface DoorbellException extends \Throwable
{
}
