<?php

// php fake-server.php SCRIPT: prints its address, then every request or line it reads, in base64.
//
// The script is a list of connections, each a list of steps:
//   ['request']         reads an HTTP request with its body
//   ['line']            reads one line
//   ['send', BYTES]     sends them
//   ['flood', N]        sends N times 64 KiB, or until the client has hung up
//   ['close']           ends the connection; with unread bytes that is a reset
//   ['hang']            says nothing any more

declare(strict_types=1);

$script = unserialize((string) base64_decode($argv[1], true));
$listener = stream_socket_server('tcp://127.0.0.1:0');
echo stream_socket_get_name($listener, false), "\n";
$kept = [];
foreach ($script as $steps) {
    $connection = stream_socket_accept($listener, 60);
    if ($connection === false) {
        exit(1);
    }
    foreach ($steps as $step) {
        switch ($step[0]) {
            case 'request':
                $request = '';
                while (($line = fgets($connection)) !== false) {
                    $request .= $line;
                    if ($line === "\r\n") {
                        break;
                    }
                }
                $length = preg_match('/^content-length: (\d+)/im', $request, $found) === 1 ? (int) $found[1] : 0;
                $request .= $length > 0 ? stream_get_contents($connection, $length) : '';
                echo base64_encode($request), "\n";
                break;
            case 'line':
                echo base64_encode((string) fgets($connection)), "\n";
                break;
            case 'send':
                fwrite($connection, $step[1]);
                break;
            case 'flood':
                for ($i = 0; $i < $step[1] && @fwrite($connection, str_repeat('x', 65_536)) !== false; $i++) {
                }
                break;
            case 'close':
                fclose($connection);
                break;
            case 'hang':
                $kept[] = $connection;
                break;
        }
    }
    // Left open until the end of the script, unless it was closed.
    $kept[] = $connection;
}
// For as long as the test looks.
sleep(60);
