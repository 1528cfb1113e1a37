<?php

declare(strict_types=1);

namespace Doorbell;

/**
 * One push of a batch, for {@see Client::pushAll()}.
 */
final class Push
{
    /** @var string|list<string> */
    public readonly string|array $uid;

    /**
     * @param string|int|list<string|int> $uid one uid, or several
     * @param mixed $data a string, or anything that JSON can say
     * @param int|null $ttl seconds to keep it for whoever is not there; 0: only who is there now; null: the server's
     *                      own default
     * @param string|null $id pushed again within 120 s under the same id, it is delivered once
     *
     * @throws Exception\InvalidRequest a uid is not one, or the ttl is negative
     */
    public function __construct(
        string|int|array $uid,
        public readonly mixed $data,
        public readonly ?int $ttl = null,
        public readonly ?string $id = null,
    ) {
        if (\is_array($uid)) {
            $this->uid = array_map(Internal\Uid::check(...), array_values($uid));
        } else {
            $this->uid = Internal\Uid::check($uid);
        }
        if ($ttl !== null && $ttl < 0) {
            throw new Exception\InvalidRequest("the ttl is $ttl; give 0 or more seconds, or null for the server's default");
        }
        if ($id === '') {
            throw new Exception\InvalidRequest('the id is empty; give a text that names this push, or null');
        }
    }

    /**
     * The members of the request, with nothing in it that was not given.
     *
     * @internal
     *
     * @return array<string, mixed>
     */
    public function members(): array
    {
        $members = [\is_array($this->uid) ? 'uids' : 'uid' => $this->uid, 'data' => $this->data];
        if ($this->ttl !== null) {
            $members['ttl'] = $this->ttl;
        }
        if ($this->id !== null) {
            $members['id'] = $this->id;
        }

        return $members;
    }
}
