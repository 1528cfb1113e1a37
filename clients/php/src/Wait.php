<?php

declare(strict_types=1);

namespace Doorbell;

/**
 * What a push waits for before it is answered.
 */
enum Wait: string
{
    /** The message is in the connections' sockets or queues. The server's default. */
    case Written = 'written';

    /** The page's client library said that it has the message, or the time was over. */
    case Acked = 'acked';
}
