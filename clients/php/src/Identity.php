<?php

declare(strict_types=1);

namespace Doorbell;

/**
 * A person as the provider of a login knows them.
 */
final class Identity
{
    /**
     * @param string $provider the provider's section in the server's configuration, such as `wechat-mp`
     * @param string|null $appid the provider's name for the application that asked; ids of two applications are not
     *                           comparable
     * @param string $id stable within provider and appid
     * @param string|null $unionid the same person across the applications of one owner, where the provider has that
     */
    public function __construct(
        public readonly string $provider,
        public readonly ?string $appid,
        public readonly string $id,
        public readonly ?string $unionid,
        public readonly ?string $name,
        public readonly ?string $picture,
    ) {
    }

    /**
     * What to find the account by: provider, appid and id, in one text that no other person has.
     */
    public function key(): string
    {
        return implode(':', array_map(rawurlencode(...), [$this->provider, $this->appid ?? '', $this->id]));
    }

    /**
     * @internal
     */
    public static function read(Internal\Members $members): self
    {
        return new self(
            $members->string('provider'),
            $members->optionalString('appid'),
            $members->string('id'),
            $members->optionalString('unionid'),
            $members->optionalString('name'),
            $members->optionalString('picture'),
        );
    }
}
