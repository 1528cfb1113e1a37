<?php

declare(strict_types=1);

namespace Doorbell\Internal;

/**
 * A key that var_dump(), var_export(), print_r(), dd(), (array) and serialize() do not show: the object has no
 * properties at all.
 *
 * @internal
 */
final class Secret
{
    /** @var \WeakMap<self, string>|null */
    private static ?\WeakMap $values = null;

    public function __construct(#[\SensitiveParameter] string $value)
    {
        self::$values ??= new \WeakMap();
        self::$values[$this] = $value;
    }

    public function reveal(): string
    {
        return self::$values[$this];
    }

    /**
     * The text without the key, should somebody have put it there.
     */
    public function hide(string $text): string
    {
        return str_replace($this->reveal(), '***', $text);
    }

    public function __serialize(): array
    {
        throw new \LogicException('a Doorbell client holds a key and is not serialized; make a new one where it is needed');
    }

    private function __clone()
    {
    }
}
