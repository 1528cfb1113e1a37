<?php

declare(strict_types=1);

namespace Doorbell;

use Doorbell\Exception\InvalidRequest;
use Doorbell\Exception\ProtocolError;
use Doorbell\Exception\ServerUnavailable;
use Doorbell\Exception\Unauthorized;
use Doorbell\Internal\HttpResponse;
use Doorbell\Internal\HttpTransport;
use Doorbell\Internal\Json;
use Doorbell\Internal\Members;
use Doorbell\Internal\Secret;
use Doorbell\Internal\Uid;

/**
 * Speaks to a Doorbell server's HTTP API.
 *
 * Nothing is opened before the first call; the connection is then kept for the next ones. A call that could not be
 * sent, or that may be carried out twice without harm (a push with an id, and everything but pushes), is sent once
 * more when the connection fails.
 *
 * Every method throws {@see Exception\DoorbellException}: {@see ServerUnavailable}, {@see Exception\Timeout} and
 * {@see ProtocolError} (which say whether the call may have been carried out), {@see Unauthorized}, and
 * {@see InvalidRequest}.
 */
final class Client
{
    /** Seconds a push that waits for acknowledgements gets beyond `timeout` when it names no time itself. */
    private const ACK_ALLOWANCE = 30.0;

    private readonly Secret $key;
    private readonly HttpTransport $transport;

    /**
     * @param string $key an API key, such as the text of `api.key` in the server's data directory; whitespace around it
     *                    is not part of it
     * @param string $url the API listener; `https://` and a path are for proxies in front of it
     * @param float $connectTimeout seconds to connect
     * @param float $timeout seconds for a whole call, connecting and a second attempt included
     * @param int $maxResponseBytes the largest answer that is read
     *
     * @throws InvalidRequest a parameter that cannot work
     */
    public function __construct(
        #[\SensitiveParameter] string $key,
        string $url = 'http://127.0.0.1:10003',
        float $connectTimeout = 1.0,
        private readonly float $timeout = 5.0,
        int $maxResponseBytes = 4_194_304,
    ) {
        $key = trim($key);
        if (preg_match('/^[\x21-\x7e]+$/D', $key) !== 1) {
            throw new InvalidRequest('the API key is empty or has characters that no key has; give the text of the key file');
        }
        if ($connectTimeout <= 0 || $timeout <= 0 || $maxResponseBytes <= 0) {
            throw new InvalidRequest('connectTimeout, timeout and maxResponseBytes have to be more than 0');
        }
        $this->key = new Secret($key);
        $this->transport = new HttpTransport($url, $this->key, $connectTimeout, $maxResponseBytes);
    }

    /**
     * Pushes to every connection of one uid, or of several.
     *
     * A push that nobody heard is no exception: ask {@see PushResult::reached()}.
     *
     * @param string|int|list<string|int> $uid one uid, or several
     * @param mixed $data a string, or anything that JSON can say (an empty array is `[]`; for `{}` give a stdClass)
     * @param int|null $ttl seconds to keep it for whoever is not there; 0: only who is there now; null: the server's
     *                      own default
     * @param string|null $id pushed again within 120 s under the same id, it is delivered once and answered the same;
     *                        this is what makes a push safe to repeat
     * @param Wait|null $wait what to wait for; null: the server's own default
     * @param int|null $timeoutMs how long to wait for it at most, in milliseconds; the call may take that much longer
     *
     * @throws Exception\DoorbellException
     */
    public function push(
        string|int|array $uid,
        mixed $data,
        ?int $ttl = null,
        ?string $id = null,
        ?Wait $wait = null,
        ?int $timeoutMs = null,
    ): PushResult {
        $members = (new Push($uid, $data, $ttl, $id))->members();
        if ($wait !== null) {
            $members['wait'] = $wait->value;
        }
        if ($timeoutMs !== null) {
            if ($timeoutMs < 0) {
                throw new InvalidRequest("timeoutMs is $timeoutMs; give 0 or more milliseconds, or null");
            }
            $members['timeout_ms'] = $timeoutMs;
        }
        $longer = match (true) {
            $timeoutMs !== null => $timeoutMs / 1000,
            $wait === Wait::Acked => self::ACK_ALLOWANCE,
            default => 0.0,
        };

        return PushResult::read(Members::parse($this->call('POST', '/v1/push', $members, $id !== null, $longer)));
    }

    /**
     * Sends several pushes in one request.
     *
     * @param list<Push> $pushes
     *
     * @return list<PushResult> one for each push, in the same order
     *
     * @throws Exception\DoorbellException
     */
    public function pushAll(array $pushes): array
    {
        if ($pushes === []) {
            return [];
        }
        $repeatable = true;
        $members = [];
        foreach ($pushes as $push) {
            $members[] = $push->members();
            $repeatable = $repeatable && $push->id !== null;
        }
        $results = array_map(
            PushResult::read(...),
            Members::parseList($this->call('POST', '/v1/push', $members, $repeatable)),
        );
        if (\count($results) !== \count($pushes)) {
            throw new ProtocolError(
                sprintf('%d pushes got %d answers; check the versions of server and package', \count($pushes), \count($results)),
                true,
            );
        }

        return $results;
    }

    /**
     * Pushes to every connection that has named its uid.
     *
     * @param mixed $data as in {@see push()}
     *
     * @throws Exception\DoorbellException
     */
    public function broadcast(mixed $data): BroadcastResult
    {
        $members = Members::parse($this->call('POST', '/v1/broadcast', ['data' => $data], false));

        return new BroadcastResult($members->int('connections'), $members->int('written'));
    }

    /**
     * Who is there, on what, since when. A uid nobody uses is no exception: it is offline.
     *
     * @throws Exception\DoorbellException
     */
    public function user(string|int $uid): Presence
    {
        $members = Members::parse($this->call('GET', '/v1/users/' . rawurlencode(Uid::check($uid))));

        return new Presence(
            $members->string('uid'),
            $members->bool('online'),
            array_map(Connection::read(...), $members->objects('connections')),
        );
    }

    /**
     * Whether the uid has a connection.
     *
     * @throws Exception\DoorbellException
     */
    public function isOnline(string|int $uid): bool
    {
        return $this->user($uid)->online;
    }

    /**
     * Closes every connection of the uid with 3501, after what was pushed to them before.
     *
     * @return int how many there were; when the connection failed and the call was repeated, those of the second time
     *
     * @throws Exception\DoorbellException
     */
    public function kick(string|int $uid): int
    {
        return Members::parse($this->call('DELETE', '/v1/users/' . rawurlencode(Uid::check($uid)) . '/connections'))
            ->int('closed');
    }

    /**
     * Makes the uid a member of the group. The membership outlives the uid's connections and ends with the server.
     *
     * @param string|int $group 1 to 128 bytes of UTF-8; it is made when it does not exist
     *
     * @return bool whether it was not one before
     *
     * @throws Exception\DoorbellException
     */
    public function joinGroup(string|int $group, string|int $uid): bool
    {
        return $this->membership('PUT', $group, $uid);
    }

    /**
     * Ends the membership.
     *
     * @return bool whether there was one
     *
     * @throws Exception\DoorbellException
     */
    public function leaveGroup(string|int $group, string|int $uid): bool
    {
        return $this->membership('DELETE', $group, $uid);
    }

    /**
     * Pushes to every connection of every member. A group that does not exist has no members.
     *
     * @param mixed $data as in {@see push()}
     *
     * @throws Exception\DoorbellException
     */
    public function pushGroup(string|int $group, mixed $data): PushResult
    {
        $path = '/v1/groups/' . rawurlencode(Uid::group($group)) . '/push';

        return PushResult::read(Members::parse($this->call('POST', $path, ['data' => $data], false)));
    }

    /**
     * Has the server make a token with which a page proves its uid. {@see Token::mint()} does the same without a call.
     *
     * @param int $ttl seconds it is good for
     *
     * @throws Exception\DoorbellException
     */
    public function createToken(string|int $uid, int $ttl = 3600): string
    {
        if ($ttl < 1) {
            throw new InvalidRequest("the ttl is $ttl; give at least 1 second");
        }

        return Members::parse($this->call('POST', '/v1/tokens', ['uid' => Uid::check($uid), 'ttl' => $ttl]))
            ->string('token');
    }

    /**
     * A page of the list of all connections; go on with its `next` as the cursor until that is null.
     *
     * @param int $limit 1 to 1000
     * @param string|null $transport `websocket`, `sse` or `poll`
     *
     * @throws Exception\DoorbellException
     */
    public function connections(
        ?string $cursor = null,
        int $limit = 100,
        string|int|null $uid = null,
        ?string $transport = null,
    ): ConnectionPage {
        $query = http_build_query([
            'limit' => $limit,
            'cursor' => $cursor,
            'uid' => $uid === null ? null : Uid::check($uid),
            'transport' => $transport,
        ], '', '&', \PHP_QUERY_RFC3986);
        $members = Members::parse($this->call('GET', "/v1/connections?$query"));

        return new ConnectionPage(
            array_map(Connection::read(...), $members->objects('connections')),
            $members->optionalString('next'),
        );
    }

    /**
     * Closes one connection with 3501, after what was pushed to it before.
     *
     * @return bool whether it was there
     *
     * @throws Exception\DoorbellException
     */
    public function closeConnection(string $id): bool
    {
        try {
            $this->call('DELETE', '/v1/connections/' . rawurlencode($id));
        } catch (InvalidRequest $refused) {
            return $refused->type === 'urn:doorbell:unknown_connection' ? false : throw $refused;
        }

        return true;
    }

    /**
     * Says who a page is that said hello without a token, after a login check of your own.
     *
     * @param string $id the `connection` of the page's welcome
     *
     * @throws InvalidRequest with status 404 when it is gone, 409 when it has a uid already or does not wait for one
     * @throws Exception\DoorbellException
     */
    public function bind(string $id, string|int $uid): Connection
    {
        $path = '/v1/connections/' . rawurlencode($id) . '/bind';

        return Connection::read(Members::parse($this->call('POST', $path, ['uid' => Uid::check($uid)], false)));
    }

    /**
     * Ends the uid's tokens before their time and closes the connections that came with them.
     *
     * @param int|null $before those issued before this, in Unix seconds; null: all up to now
     *
     * @throws Exception\DoorbellException
     */
    public function revoke(string|int $uid, ?int $before = null): Revocation
    {
        return $this->revocation($uid, $before === null ? null : ['before' => $before]);
    }

    /**
     * Ends a single token, by its `jti`, and closes the connections that came with it.
     *
     * @throws Exception\DoorbellException
     */
    public function revokeToken(string|int $uid, string $tokenId): Revocation
    {
        return $this->revocation($uid, ['token_id' => $tokenId]);
    }

    /**
     * What became of a message, for each uid it was for. Empty when the server remembers nothing of it.
     *
     * @param string $id {@see PushResult::$id}
     * @param string|int|null $uid only for this uid
     *
     * @return list<Trail>
     *
     * @throws Exception\DoorbellException
     */
    public function trail(string $id, string|int|null $uid = null): array
    {
        $query = $uid === null ? '' : '?uid=' . rawurlencode(Uid::check($uid));
        try {
            $members = Members::parse($this->call('GET', '/v1/messages/' . rawurlencode($id) . $query));
        } catch (InvalidRequest $refused) {
            return $refused->type === 'urn:doorbell:unknown_message' ? [] : throw $refused;
        }

        return array_map(Trail::read(...), $members->objects('trails'));
    }

    /** @param array<string, mixed>|null $members */
    private function revocation(string|int $uid, ?array $members): Revocation
    {
        $path = '/v1/users/' . rawurlencode(Uid::check($uid)) . '/revoke';

        return Revocation::read(Members::parse($this->call('POST', $path, $members)));
    }

    /**
     * Fetches the result of a login.
     *
     * @internal use {@see Login}
     *
     * @param array<string, string> $members
     *
     * @throws Exception\DoorbellException
     */
    public function redeem(#[\SensitiveParameter] array $members): LoginResult
    {
        // A second attempt would find it fetched, and end what came of it.
        $response = $this->transport->send('POST', '/v1/redeem', Json::encode($members), false, $this->timeout);

        return $response->isSuccess()
            ? LoginResult::read(Members::parse($response->body))
            : throw Login::refusal($response);
    }

    /**
     * Ends what came of a login.
     *
     * @internal use {@see Login}
     *
     * @throws Exception\DoorbellException
     */
    public function revokeLogin(string $login): void
    {
        $path = '/v1/logins/' . rawurlencode($login) . '/session';
        $response = $this->transport->send('DELETE', $path, null, true, $this->timeout);
        if (!$response->isSuccess()) {
            throw Login::refusal($response);
        }
    }

    private function membership(string $method, string|int $group, string|int $uid): bool
    {
        $path = sprintf('/v1/groups/%s/members/%s', rawurlencode(Uid::group($group)), rawurlencode(Uid::check($uid)));

        return Members::parse($this->call($method, $path))->bool('changed');
    }

    /**
     * @param array<mixed>|null $members of the body
     * @param float $longer seconds beyond the timeout
     *
     * @return string the body of a success
     */
    private function call(
        string $method,
        string $path,
        ?array $members = null,
        bool $repeatable = true,
        float $longer = 0.0,
    ): string {
        $body = $members === null ? null : Json::encode($members);
        $response = $this->transport->send($method, $path, $body, $repeatable, $this->timeout + $longer);

        return $response->isSuccess() ? $response->body : throw $this->refusal($method, $path, $response);
    }

    private function refusal(string $method, string $path, HttpResponse $response): Exception\DoorbellException
    {
        ['type' => $type, 'detail' => $detail] = $response->problem();
        $status = $response->status;
        $said = $this->key->hide("the server answered $status" . ($detail === null ? '' : ": $detail"));

        return match (true) {
            $status === 401, $status === 403 => new Unauthorized(
                "$said. Check the API key: it is the text of api.key in the server's data directory, or one of [[api.keys]]",
            ),
            $status === 404 && \in_array($type, ['urn:doorbell:unknown_connection', 'urn:doorbell:unknown_message'], true) => new InvalidRequest($said, $status, $type),
            $status === 404, $status === 405 => new InvalidRequest(
                "$said. The server has no $method " . strtok($path, '?') . ': it is older than this package, or the url is not its API listener',
                $status,
                $type,
            ),
            $status >= 400 && $status < 500 => new InvalidRequest($said, $status, $type),
            $status >= 500 => new ServerUnavailable("$said. Look at the server's log, and at the proxy's if there is one between", true),
            default => new ProtocolError("$said, which is neither a success nor an error. Check the url", true),
        };
    }
}
