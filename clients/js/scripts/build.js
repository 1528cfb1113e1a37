// Builds dist/: ESM and CJS with their types, and one file for a <script> tag.

import { execFileSync } from 'node:child_process';
import { cp, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const root = fileURLToPath(new URL('../', import.meta.url));
const at = (path) => `${root}${path}`;
const common = { absWorkingDir: root, bundle: true, target: 'es2020', logLevel: 'warning', legalComments: 'none' };

await rm(at('dist'), { recursive: true, force: true });
await mkdir(at('dist/cjs'), { recursive: true });
await Promise.all([
  build({ ...common, entryPoints: ['src/index.ts'], format: 'esm', outfile: 'dist/esm/index.js', sourcemap: true }),
  build({ ...common, entryPoints: ['src/index.ts'], format: 'cjs', outfile: 'dist/cjs/index.js', sourcemap: true }),
  build({
    ...common,
    entryPoints: ['src/script.ts'],
    format: 'iife',
    minify: true,
    mangleProps: /^_/,
    outfile: 'dist/doorbell.min.js',
  }),
]);
execFileSync(process.execPath, [
  at('node_modules/typescript/bin/tsc'), '--project', root, '--emitDeclarationOnly', '--outDir', at('dist/esm'),
], { stdio: 'inherit' });

// The declarations are the same for both; a package.json beside the copy says that there they describe CommonJS.
for (const entry of await readdir(at('dist/esm'), { recursive: true })) {
  if (entry.endsWith('.d.ts')) await cp(at(`dist/esm/${entry}`), at(`dist/cjs/${entry}`));
}
await writeFile(at('dist/cjs/package.json'), '{ "type": "commonjs" }\n');
