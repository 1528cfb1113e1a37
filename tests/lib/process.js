// Child processes that never outlive the tests.

import { spawn } from 'node:child_process';

import { within } from './until.js';

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/** Starts a program whose stdin is closed; its output is collected as text. */
export function start(program, args = [], options = {}) {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  running.add(child);
  const output = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr']) {
    child[stream]?.setEncoding('utf8').on('data', (text) => { output[stream] += text; });
  }
  const exited = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      running.delete(child);
      resolve({ code, signal, ...output });
    });
  });
  exited.catch(() => running.delete(child));
  return { child, output, exited };
}

/** Runs a program to its end: `{ code, signal, stdout, stderr }`. */
export async function run(program, args = [], { withinMs = 30_000, ...options } = {}) {
  const { child, exited } = start(program, args, options);
  try {
    return await within(`${program} ends`, exited, withinMs);
  } finally {
    child.kill('SIGKILL');
  }
}

/** Asks a process to stop, and makes it stop when it does not. */
export async function stop({ child, exited }, withinMs = 10_000) {
  if (child.exitCode !== null || child.signalCode !== null) return exited;
  child.kill('SIGTERM');
  try {
    return await within(`process ${child.pid} stops on SIGTERM`, exited, withinMs);
  } catch {
    child.kill('SIGKILL');
    return exited;
  }
}
