<?php

declare(strict_types=1);

namespace Doorbell\Exception;

/**
 * No login has this code, or not with this verifier: it belongs to another session or another client.
 */
final class LoginUnknown extends LoginFailed
{
}
