// The real binary on ports of its own.

import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { run, start, stop } from './process.js';
import { until } from './until.js';

const repository = fileURLToPath(new URL('../../', import.meta.url));

export const binary = resolve(process.env.DOORBELL_BIN ?? join(repository, 'target/debug/doorbell'));

/** The sample this server replaces, when it lies beside the checkout. */
export const seedFolder = resolve(repository, '../shared/seed');

// The binary refuses variables it does not know, and those of these tests are none of its own.
const ENVIRONMENT = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('DOORBELL_')));

const TERMINAL = fileURLToPath(new URL('terminal.py', import.meta.url));

const LOOPBACK = '127.0.0.1:0';
const READY_WITHIN_MS = 15_000;

/**
 * Starts `doorbell serve` (or `demo`) and waits for its `listening` line.
 *
 * `identity` is `open` unless told otherwise; `config` is the text of a TOML file; `data` keeps a data directory
 * over restarts; `descriptors` is the hard limit on open files; `terminal` runs it on a terminal (`'foreground'` or
 * `'background'`), which `started.type(text)` types into. Stop it with `stop()`, or hand the test's `t` as `owner` and it stops with the test.
 */
export async function startServer(options = {}) {
  const { command = 'serve', identity = 'open', config, args = [], env = {}, owner } = options;
  const ports = { public: LOOPBACK, text: LOOPBACK, api: LOOPBACK, ...options.ports };
  const data = options.data ?? await mkdtemp(join(tmpdir(), 'doorbell-test-'));
  const flags = Object.entries(ports).flatMap(([name, address]) => [`--${name}`, address]);
  if (command === 'serve') flags.push('--identity', identity);
  if (config !== undefined) {
    const file = join(data, 'doorbell.toml');
    await writeFile(file, config);
    flags.push('--config', file);
  }
  const limit = options.descriptors === undefined ? [] : ['prlimit', `--nofile=${options.descriptors}`];
  const { terminal } = options;
  const onTerminal = terminal === undefined ? [] : ['python3', TERMINAL, ...(terminal === 'background' ? ['--background'] : [])];
  const [program, ...words] = [...limit, ...onTerminal, binary, command, ...flags, '--data-dir', data, ...args];
  const server = start(program, words, {
    env: { ...ENVIRONMENT, ...env },
    ...(terminal && { stdio: ['pipe', 'pipe', 'pipe'] }),
  });
  const forget = async () => {
    if (options.data === undefined) await rm(data, { recursive: true, force: true });
  };
  let addresses;
  try {
    addresses = await listening(server);
  } catch (error) {
    await stop(server);
    await forget();
    throw error;
  }
  const started = {
    ...addresses,
    data,
    pid: server.child.pid,
    process: server,
    key: (await readFile(join(data, 'api.key'), 'utf8').catch(() => '')).trim(),
    type: (text) => server.child.stdin.write(text),
    async stop() {
      const end = await stop(server);
      await forget();
      return end;
    },
  };
  owner?.after(() => started.stop());
  return started;
}

/** The `listening name=host:port …` line, as `{ name: { host, port, address } }`. */
async function listening(server) {
  let ended = null;
  server.exited.then((end) => { ended = end; }, (error) => { ended = { error }; });
  const line = await until('the server says where it listens', () => {
    if (ended) throw new Error(`the server ended before it listened: ${JSON.stringify(ended)}`);
    return server.output.stdout.match(/^listening .*$/m)?.[0];
  }, READY_WITHIN_MS);
  const pairs = [...line.matchAll(/(\w+)=(\S+):(\d+)/g)];
  return Object.fromEntries(pairs.map(([, name, host, port]) => [
    name, { host, port: Number(port), address: `${host}:${port}` },
  ]));
}

/** Starts `doorbell echo`, for conformance suites. */
export async function startEcho(args = [], owner = undefined) {
  const server = start(binary, ['echo', '--listen', LOOPBACK, ...args], { env: ENVIRONMENT });
  owner?.after(() => stop(server));
  const { echo } = await listening(server);
  return { ...echo, stop: () => stop(server) };
}

const SPEAKS_TO_THE_API = ['push', 'broadcast'];

/** Runs the binary with these arguments and no others, to its end. */
export function runBinary(...args) {
  return run(binary, args, { env: ENVIRONMENT });
}

/** Runs one `doorbell` command against a running server. */
export function doorbell(server, command, ...args) {
  const where = SPEAKS_TO_THE_API.includes(command) ? ['--api', server.api.address] : [];
  return runBinary(command, ...args, ...where, '--data-dir', server.data);
}

/** Runs a shell command in which `doorbell` means the binary. */
export async function shell(command) {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-path-'));
  try {
    await symlink(binary, join(folder, 'doorbell'));
    const PATH = `${folder}${delimiter}${process.env.PATH}`;
    return await run('bash', ['-c', command], { env: { ...ENVIRONMENT, PATH } });
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** A connection token for a uid, as `doorbell token` mints it. */
export async function tokenFor(server, uid, ttl = '1h') {
  const { code, stdout, stderr } = await doorbell(server, 'token', uid, '--ttl', ttl);
  if (code !== 0) throw new Error(`doorbell token: exit ${code}: ${stderr}`);
  return stdout.trim();
}

/** The bytes of memory a process holds. */
export async function residentBytes(pid) {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(status.match(/VmRSS:\s+(\d+) kB/)[1]) * 1024;
}
