<?php

declare(strict_types=1);

// Works without `composer install`: the package needs nothing but itself.
spl_autoload_register(static function (string $class): void {
    if (str_starts_with($class, 'Doorbell\\Tests\\')) {
        $file = __DIR__ . '/' . strtr(substr($class, 15), '\\', '/') . '.php';
        if (is_file($file)) {
            require $file;
        }
    }
});
require dirname(__DIR__) . '/autoload.php';
