<?php

declare(strict_types=1);

// Works without `composer install`: the package needs nothing but itself.
spl_autoload_register(static function (string $class): void {
    foreach (['Doorbell\\Tests\\' => __DIR__ . '/', 'Doorbell\\' => dirname(__DIR__) . '/src/'] as $prefix => $folder) {
        if (str_starts_with($class, $prefix)) {
            $file = $folder . strtr(substr($class, strlen($prefix)), '\\', '/') . '.php';
            if (is_file($file)) {
                require $file;
            }

            return;
        }
    }
});
