// The <script> file: sets the global `Doorbell`.

import { Doorbell } from './doorbell.js';

(globalThis as { Doorbell?: unknown }).Doorbell = Doorbell;
