<?php

declare(strict_types=1);

namespace Doorbell\Tests\Support;

/**
 * The server does not speak the subprotocol that was offered.
 */
final class NoUpgrade extends \RuntimeException
{
}
