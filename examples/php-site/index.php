<?php
require __DIR__ . '/../../clients/php/autoload.php';

use Doorbell\{Client, Login};
use Doorbell\Exception\{DoorbellException, LoginFailed};

$site = [
    'server' => getenv('SITE_DOORBELL') ?: 'http://127.0.0.1:19999',    // where browsers and phones reach Doorbell
    'api' => getenv('SITE_DOORBELL_API') ?: 'http://127.0.0.1:10003',   // where this machine alone does
    'key_file' => getenv('SITE_DOORBELL_KEY_FILE') ?: '/var/lib/doorbell/api.key',
    'client' => getenv('SITE_CLIENT_ID') ?: 'php-site',
];
session_start(['use_strict_mode' => true, 'cookie_httponly' => true, 'cookie_samesite' => 'Lax',
    'cookie_secure' => isset($_SERVER['HTTPS'])]);
// No other site knows it: none can sign a visitor out, or in as somebody else.
$token = $_SESSION['token'] ??= bin2hex(random_bytes(16));
$field = static fn (array $from, string $name): string => is_string($from[$name] ?? null) ? $from[$name] : '';

if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    try {
        if (!hash_equals($token, $field($_GET, 'token'))) {
            $_SESSION['notice'] = 'That came from an old page. Please try again.';
        } else {
            $ended = $_SESSION['login'] ?? null;
            session_regenerate_id(true);   // whoever knew the visitor's session before has nothing of this one
            $_SESSION = [];
            $login = new Login(new Client((string) file_get_contents($site['key_file']), $site['api']), $site['client']);
            if ($ended !== null) {
                $login->revoke($ended);
            } else {
                $result = $login->redeem($field($_POST, 'code'), $field($_POST, 'code_verifier'));
                $_SESSION = ['login' => $result->login, 'user' => $result->identity->key(), 'name' => $result->identity->name];
            }
        }
    } catch (DoorbellException $failure) {
        error_log($failure->getMessage());
        $_SESSION['notice'] = $failure instanceof LoginFailed ? 'That code is no longer good.' : 'Doorbell could not be asked.';
    }
    header('Location: ' . strtok($_SERVER['REQUEST_URI'], '?'), true, 303);   // a reload posts nothing again
    exit;
}
$html = static fn (?string $text): string => htmlspecialchars((string) $text, ENT_QUOTES | ENT_SUBSTITUTE);
?>
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A site in PHP</title>
<h1>A site in PHP</h1>
<p id="notice" role="status"><?= $html($_SESSION['notice'] ?? '') ?></p>
<?php unset($_SESSION['notice']); if (isset($_SESSION['user'])) { ?>
<p id="who" data-user="<?= $html($_SESSION['user']) ?>">Signed in as <?= $html($_SESSION['name'] ?? $_SESSION['user']) ?></p>
<form method="post" action="?token=<?= $token ?>"><button>Sign out</button></form>
<?php } else { ?>
<script src="<?= $html($site['server']) ?>/doorbell-login.js"></script>
<doorbell-login client-id="<?= $html($site['client']) ?>" action="?token=<?= $token ?>"></doorbell-login>
<?php } ?>
