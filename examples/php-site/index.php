<?php
declare(strict_types=1);
require __DIR__ . '/../../clients/php/autoload.php';

use Doorbell\{Client, Login, Pkce};
use Doorbell\Exception\DoorbellException;

$doorbell = getenv('DOORBELL_URL') ?: 'http://127.0.0.1:19999';    // where browsers and phones reach Doorbell
$api = new Client(file_get_contents(getenv('DOORBELL_KEY_FILE')), getenv('DOORBELL_API') ?: 'http://127.0.0.1:10003');
$login = new Login($api, 'php-site');
session_start(['cookie_httponly' => true, 'cookie_samesite' => 'Lax', 'use_strict_mode' => true]);

if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    try {
        if (isset($_SESSION['login'])) {
            $login->revoke($_SESSION['login']);
            $_SESSION = [];
        } elseif (isset($_SESSION['pkce'])) {
            // Only this session has the verifier: nobody can plant a login of their own here.
            $result = $login->redeem((string) $_POST['code'], $_SESSION['pkce']->verifier);
            $_SESSION = ['login' => $result->login, 'user' => $result->identity->key(), 'name' => $result->identity->name];
        }
        session_regenerate_id(true);
    } catch (DoorbellException $failure) {
        error_log($failure->getMessage());
        unset($_SESSION['pkce']);
    }
    header('Location: ' . strtok($_SERVER['REQUEST_URI'], '?'), true, 303);
    exit;
}
$text = static fn (?string $text): string => htmlspecialchars((string) $text, ENT_QUOTES | ENT_SUBSTITUTE);
?>
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>PHP site</title>
<body>
<h1>PHP site</h1>
<?php if (isset($_SESSION['user'])): ?>
<p>Signed in as <b id="who"><?= $text($_SESSION['name'] ?? $_SESSION['user']) ?></b></p>
<form method="post"><button>Sign out</button></form>
<?php else: $_SESSION['pkce'] ??= Pkce::create() ?>
<form method="post" id="done"><input type="hidden" name="code"></form>
<script src="<?= $text($doorbell) ?>/doorbell-login.js"></script>
<doorbell-login client-id="php-site" code-challenge="<?= $text($_SESSION['pkce']->challenge) ?>"></doorbell-login>
<script>
  document.querySelector('doorbell-login').addEventListener('approved', (event) => {
    document.querySelector('#done [name=code]').value = event.detail.code;
    document.querySelector('#done').submit();
  });
</script>
<?php endif ?>
