<?php
// php push.php ADDRESS [UID]: pushes one message through the text port, as the article's scan callback does.
[, $address, $uid] = $argv + [2 => 'uid1'];
$client = stream_socket_client("tcp://$address", $code, $message, 1);
fwrite($client, json_encode(['uid' => $uid, 'percent' => '88%']) . "\n");
echo fread($client, 8192);
fclose($client);
