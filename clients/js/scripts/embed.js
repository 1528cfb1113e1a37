// Writes the <script> files where the server takes them from.

import { copyFile } from 'node:fs/promises';

const at = (path) => new URL(path, import.meta.url);

for (const name of ['doorbell', 'doorbell-login']) {
  await copyFile(at(`../dist/${name}.min.js`), at(`../../../crates/server/assets/client/${name}.js`));
}
