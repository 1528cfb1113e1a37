<?php

declare(strict_types=1);

namespace Doorbell;

/**
 * What the text port says to one line.
 */
enum Answer: string
{
    /** At least one connection of that uid has it, in its socket or in its queue. */
    case Ok = 'ok';

    /** Nobody has it, or the line is not a push. */
    case Fail = 'fail';

    /** Nobody is there; it is kept for as long as the server's `text.hold` says. */
    case Held = 'held';
}
