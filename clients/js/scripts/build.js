// Builds dist/: ESM and CJS with their types, and one file for a <script> tag each.

import { execFileSync } from 'node:child_process';
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const root = fileURLToPath(new URL('../', import.meta.url));
const at = (path) => `${root}${path}`;
const common = { absWorkingDir: root, bundle: true, target: 'es2020', logLevel: 'warning', legalComments: 'none' };

const entries = ['src/index.ts', 'src/login/index.ts'];
// The QR encoder is part of what is built, and its licence goes where it goes.
const licence = await readFile(at('node_modules/lean-qr/LICENSE'), 'utf8');
const banner = { js: `/*! Contains lean-qr (QR codes). ${licence.trim()} */` };
const module = (format, entryPoints, more = {}) => build({
  ...common, ...more, entryPoints, format, outdir: `dist/${format}`, outbase: 'src', sourcemap: true,
});
const script = (entryPoint, outfile, more = {}) => build({
  ...common, ...more, entryPoints: [entryPoint], format: 'iife', minify: true, mangleProps: /^_/, outfile,
});

await rm(at('dist'), { recursive: true, force: true });
await mkdir(at('dist/cjs'), { recursive: true });
await Promise.all([
  ...['esm', 'cjs'].flatMap((format) => [
    module(format, entries.slice(0, 1)),
    module(format, entries.slice(1), { banner }),
  ]),
  script('src/script.ts', 'dist/doorbell.min.js'),
  script('src/login/script.ts', 'dist/doorbell-login.min.js', { banner }),
]);
execFileSync(process.execPath, [
  at('node_modules/typescript/bin/tsc'), '--project', root, '--emitDeclarationOnly', '--outDir', at('dist/esm'),
], { stdio: 'inherit' });

// The declarations are the same for both; a package.json beside the copy says that there they describe CommonJS.
for (const entry of await readdir(at('dist/esm'), { recursive: true })) {
  if (entry.endsWith('.d.ts')) await cp(at(`dist/esm/${entry}`), at(`dist/cjs/${entry}`));
}
await writeFile(at('dist/cjs/package.json'), '{ "type": "commonjs" }\n');
