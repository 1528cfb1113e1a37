<?php

declare(strict_types=1);

namespace Doorbell\Internal;

use Doorbell\Exception\ProtocolError;

/**
 * The members of a JSON object that came from the server, each with the type it has to have.
 *
 * @internal
 */
final class Members
{
    /**
     * @param array<mixed> $members
     */
    private function __construct(private readonly array $members)
    {
    }

    public static function parse(string $json): self
    {
        return self::of(self::decode($json));
    }

    /**
     * The objects of a list.
     *
     * @return list<self>
     */
    public static function parseList(string $json): array
    {
        $values = self::decode($json);
        if (!\is_array($values) || !array_is_list($values)) {
            throw self::wrong('it is no list');
        }

        return array_map(self::of(...), $values);
    }

    public function string(string $name): string
    {
        return $this->optionalString($name) ?? throw self::wrong("`$name` is missing");
    }

    public function int(string $name): int
    {
        return $this->optionalInt($name) ?? throw self::wrong("`$name` is missing");
    }

    public function bool(string $name): bool
    {
        $value = $this->members[$name] ?? null;

        return \is_bool($value) ? $value : throw self::wrong("`$name` is no boolean");
    }

    public function optionalString(string $name): ?string
    {
        $value = $this->members[$name] ?? null;

        return $value === null || \is_string($value) ? $value : throw self::wrong("`$name` is no string");
    }

    public function optionalInt(string $name): ?int
    {
        $value = $this->members[$name] ?? null;

        return $value === null || \is_int($value) ? $value : throw self::wrong("`$name` is no integer");
    }

    public function object(string $name): self
    {
        return self::of($this->members[$name] ?? null);
    }

    /**
     * @return list<self>
     */
    public function objects(string $name): array
    {
        $values = $this->members[$name] ?? null;
        if (!\is_array($values) || !array_is_list($values)) {
            throw self::wrong("`$name` is no list");
        }

        return array_map(self::of(...), $values);
    }

    private static function of(mixed $value): self
    {
        // An empty object and an empty list are the same here; what is required will be missing in both.
        return \is_array($value) ? new self($value) : throw self::wrong('it is no object');
    }

    private static function decode(string $json): mixed
    {
        try {
            return json_decode($json, true, 64, \JSON_THROW_ON_ERROR | \JSON_BIGINT_AS_STRING);
        } catch (\JsonException $error) {
            throw self::wrong('it is no JSON');
        }
    }

    private static function wrong(string $why): ProtocolError
    {
        return new ProtocolError(
            "the server's answer cannot be understood: $why. Check that the address is the API listener of a Doorbell server that this package knows",
            true,
        );
    }
}
