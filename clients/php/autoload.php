<?php

declare(strict_types=1);

// For projects without Composer: `require` this file, and the package is there.
spl_autoload_register(static function (string $class): void {
    if (str_starts_with($class, 'Doorbell\\')) {
        $file = __DIR__ . '/src/' . strtr(substr($class, 9), '\\', '/') . '.php';
        if (is_file($file)) {
            require $file;
        }
    }
});
