<?php

declare(strict_types=1);

namespace Doorbell;

use Doorbell\Exception\InvalidRequest;
use Doorbell\Exception\LoginExpired;
use Doorbell\Exception\LoginFailed;
use Doorbell\Exception\LoginPending;
use Doorbell\Exception\LoginRefused;
use Doorbell\Exception\LoginUnknown;
use Doorbell\Exception\LoginUsed;
use Doorbell\Exception\ServerUnavailable;
use Doorbell\Exception\Unauthorized;
use Doorbell\Internal\Deadline;
use Doorbell\Internal\HttpResponse;
use Doorbell\Internal\HttpTransport;
use Doorbell\Internal\Json;
use Doorbell\Internal\Members;
use Doorbell\Internal\Secret;

/**
 * Logs people in by a scan.
 *
 * Usually the page begins the login with `<doorbell-login>` and brings the one-time code back here, and only
 * {@see redeem()} is needed. {@see begin()} and {@see wait()} are for programs without such a page.
 *
 * Every method throws {@see Exception\DoorbellException}; {@see LoginFailed} when there is no result.
 */
final class Login
{
    /** Seconds a server is asked to wait in one request. */
    private const LONG_POLL = 25;

    private readonly HttpTransport $public;
    private readonly ?Secret $secret;

    /**
     * @param Client $api fetches results and ends logins; its key is all that {@see redeem()} and {@see revoke()} need
     * @param string $clientId the id of one of the server's `[[login.clients]]`
     * @param string|null $clientSecret its secret, if it has one
     * @param string $publicUrl the public listener
     * @param float $connectTimeout seconds to connect to it
     * @param float $timeout seconds for a request to it, beyond what it is asked to wait
     *
     * @throws InvalidRequest a parameter that cannot work
     */
    public function __construct(
        private readonly Client $api,
        private readonly string $clientId,
        #[\SensitiveParameter] ?string $clientSecret = null,
        string $publicUrl = 'http://127.0.0.1:19999',
        float $connectTimeout = 1.0,
        private readonly float $timeout = 5.0,
    ) {
        if ($clientId === '') {
            throw new InvalidRequest('the client id is empty; give the id of one of the server\'s [[login.clients]]');
        }
        if ($connectTimeout <= 0 || $timeout <= 0) {
            throw new InvalidRequest('connectTimeout and timeout have to be more than 0');
        }
        $this->secret = $clientSecret === null ? null : new Secret(trim($clientSecret));
        $this->public = new HttpTransport($publicUrl, null, $connectTimeout, 65_536, 'public');
    }

    /**
     * Exchanges the one-time code that the page brought for who logged in. It works once.
     *
     * @param string $verifier of the {@see Pkce} whose challenge the page began with
     *
     * @throws Exception\DoorbellException
     */
    public function redeem(#[\SensitiveParameter] string $code, #[\SensitiveParameter] string $verifier): LoginResult
    {
        return $this->api->redeem(['code' => $code, 'code_verifier' => $verifier, 'client_id' => $this->clientId]);
    }

    /**
     * Begins a login from here.
     *
     * @param string|null $bindingMessage a short text to show on both screens, up to 64 characters
     * @param string|null $provider one of the client's providers; null: whichever suits the phone
     * @param array{address?: string, user_agent?: string} $computer whose login it is, for the phone to show: the
     *        visitor's, when this runs for one (`$_SERVER['REMOTE_ADDR']`). The address is believed when this machine is
     *        one of the server's `public.trusted_proxies`
     *
     * @throws Exception\DoorbellException
     */
    public function begin(?string $bindingMessage = null, ?string $provider = null, array $computer = []): LoginAttempt
    {
        $pkce = Pkce::create();
        $members = array_filter([
            'client_id' => $this->clientId,
            'client_secret' => $this->secret?->reveal(),
            'code_challenge' => $pkce->challenge,
            'code_challenge_method' => 'S256',
            'binding_message' => $bindingMessage,
            'provider' => $provider,
        ], static fn (?string $value): bool => $value !== null);
        $headers = array_filter([
            'X-Forwarded-For' => $computer['address'] ?? null,
            'User-Agent' => $computer['user_agent'] ?? 'doorbell-php',
        ], static fn (?string $value): bool => $value !== null);

        // Twice would leave a login that nobody waits for.
        return LoginAttempt::read($this->ask('POST', '/v1/device_authorization', $members, $headers, false), $pkce->verifier);
    }

    /**
     * Where a login that was begun from here stands: at once, or once its version is another than `$since`.
     *
     * @param float $seconds how long to wait for that
     *
     * @throws Exception\DoorbellException
     */
    public function state(LoginAttempt $attempt, ?int $since = null, float $seconds = 0.0): LoginState
    {
        $wait = (int) ceil(max(0.0, min($seconds, self::LONG_POLL)));
        $path = '/v1/login' . ($since === null ? '' : "?since=$since&wait=$wait");
        $headers = ['Authorization' => "Bearer $attempt->deviceCode"];

        return LoginState::read($this->ask('GET', $path, null, $headers, true, $since === null ? 0.0 : $wait));
    }

    /**
     * Waits until the owner of the phone agreed, and fetches who that is.
     *
     * @param float $seconds how long to wait at most
     * @param \Closure(LoginState): void|null $changed is told of every change, such as a new QR code to show
     *
     * @throws LoginPending nobody has answered yet
     * @throws Exception\DoorbellException
     */
    public function wait(LoginAttempt $attempt, float $seconds = 180.0, ?\Closure $changed = null): LoginResult
    {
        $deadline = new Deadline($seconds);
        $state = $this->state($attempt);
        while (!$state->isOver() && $deadline->left() > 0.0) {
            $next = $this->state($attempt, $state->version, $deadline->left());
            if ($changed !== null && $next->version !== $state->version) {
                $changed($next);
            }
            $state = $next;
        }

        return $this->fetch($attempt);
    }

    /**
     * Fetches who agreed to a login that was begun from here. It works once.
     *
     * @throws LoginPending nobody has answered yet
     * @throws Exception\DoorbellException
     */
    public function fetch(LoginAttempt $attempt): LoginResult
    {
        return $this->api->redeem([
            'device_code' => $attempt->deviceCode,
            'code_verifier' => $attempt->verifier,
            'client_id' => $this->clientId,
        ]);
    }

    /**
     * Gives up a login that was begun from here: the phone is told.
     *
     * @throws Exception\DoorbellException
     */
    public function cancel(LoginAttempt $attempt): void
    {
        $this->ask('DELETE', '/v1/login', null, ['Authorization' => "Bearer $attempt->deviceCode"], true);
    }

    /**
     * Ends what came of a login, for 24 hours after it: connections of the uid it logged in are closed.
     *
     * @param string $login {@see LoginResult::$login}
     *
     * @throws Exception\DoorbellException
     */
    public function revoke(string $login): void
    {
        $this->api->revokeLogin($login);
    }

    /**
     * @param array<string, string>|null $members
     * @param array<string, string> $headers
     * @param float $longer seconds beyond the timeout
     */
    private function ask(
        string $method,
        string $path,
        #[\SensitiveParameter] ?array $members,
        #[\SensitiveParameter] array $headers,
        bool $repeatable,
        float $longer = 0.0,
    ): Members {
        $body = $members === null ? null : Json::encode($members);
        $response = $this->public->send($method, $path, $body, $repeatable, $this->timeout + $longer, $headers);
        if (!$response->isSuccess()) {
            throw self::refusal($response);
        }

        return Members::parse($response->body === '' ? '{}' : $response->body);
    }

    /**
     * What a refusal of the login's calls means (RFC 8628 section 3.5, and the statuses of the API).
     *
     * @internal
     */
    public static function refusal(HttpResponse $response): Exception\DoorbellException
    {
        ['reason' => $reason, 'said' => $said] = $response->loginError();
        $message = "the server answered $response->status" . ($said === null ? '' : ": $said");

        return match (true) {
            $reason === 'authorization_pending' => new LoginPending($message),
            $reason === 'access_denied', $reason === 'cancelled' => new LoginRefused($message),
            $reason === 'expired_token' => new LoginExpired($message),
            $reason === 'reused' => new LoginUsed($message),
            $reason === 'invalid_grant', $reason === 'not_found' => new LoginUnknown($message),
            $response->status === 401, $reason === 'invalid_client' => new Unauthorized(
                "$message. Check the API key, and the client's id and secret: they are one of the server's [[login.clients]]",
            ),
            $response->status >= 500 => new ServerUnavailable("$message. Look at the server's log", true),
            default => new InvalidRequest($message, $response->status, $reason),
        };
    }
}
