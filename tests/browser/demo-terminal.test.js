// `doorbell demo` on a terminal: it shows a QR code of its own, and a phone signs the terminal in.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Page } from '../lib/page.js';
import { heading, phone, scan } from '../lib/login.js';
import { startServer } from '../lib/server.js';
import { until } from '../lib/until.js';

/** The demonstration on a terminal. */
async function terminal(t, { login = '', client = '' } = {}) {
  const site = client && `[[login.clients]]\nid = "demo"\nname = "Doorbell demo"\nproviders = ["demo"]\n${client}\n`;
  const server = await startServer({ command: 'demo', config: `[login]\n${login}\n${site}`, terminal: 'foreground', owner: t });
  const output = () => server.process.output.stdout.replaceAll('\r', '');
  /** Waits for a text, and goes on behind it. */
  let read = 0;
  const hears = async (pattern, ms = 15_000) => {
    const found = await until(`the terminal says ${pattern}`, () => pattern.exec(output().slice(read)), ms)
      .catch((error) => { throw new Error(`${error.message}; it says: ${output().slice(read)}`); });
    read += found.index + found[0].length;
    return found;
  };
  const code = async () => (await hears(/or open\n {2}(http:\S+)\n/))[1];
  return { server, hears, code };
}

test('agree: the terminal says who scanned and who signed in, and Enter signs out on the server', async (t) => {
  const { server, hears, code } = await terminal(t);
  await hears(/Ctrl-C stops/);
  await hears(/(?:[^\n█▀▄]*[█▀▄][^\n]*\n){16}/);
  const mobile = await phone(t);
  await scan(mobile, await code());
  await hears(/Scanned: agree on the phone/);
  assert.equal(await heading(mobile.page), 'Sign in to Doorbell demo?');
  assert.match(await mobile.page.textContent('main'), /A program on Linux/);
  await mobile.page.check('input[value="Bob"]', { force: true });
  await mobile.page.click('#approve button');
  await hears(/Signed in as Bob\. Enter signs out/);
  await mobile.page.waitForFunction(() => document.querySelector('h1').textContent.startsWith('You are signed in'));
  server.type('\n');
  await hears(/Signed out\.\n/);
  await mobile.page.waitForFunction(() => document.querySelector('h1').textContent === 'Signed out');
  await scan(mobile, await code());
});

test('the code is renewed on the screen; refused and expired are said, and Enter shows another', async (t) => {
  const { server, hears, code } = await terminal(t, { login: 'created_ttl = "15s"\nrotate = "4s"\nrotate_grace = "0s"' });
  const first = await code();
  const second = await code();
  assert.notEqual(second, first);
  const mobile = await phone(t);
  await mobile.page.goto(first);
  assert.equal(await heading(mobile.page), 'The code was renewed');
  await hears(/The code has expired/);
  server.type('\n');
  await scan(mobile, await code());
  await mobile.page.click('#deny button');
  await hears(/Refused on the phone/);
});

test('numbers: the terminal shows the one that is typed on the phone, and asks for the one that the phone shows', async (t) => {
  const one = await terminal(t, { client: 'number_match = "to_phone"' });
  const mobile = await phone(t);
  await scan(mobile, await one.code());
  const [, number] = await one.hears(/Type (\d\d) on the phone/);
  await mobile.page.fill('#number', number);
  await mobile.page.click('#approve button');
  await one.hears(/Signed in as Alice/);

  const other = await terminal(t, { client: 'number_match = "to_browser"' });
  await scan(mobile, await other.code());
  await mobile.page.click('#approve button');
  await other.hears(/Type the six digits/);
  const digits = await mobile.page.getAttribute('.digits', 'aria-label');
  other.server.type(`${digits === '000000' ? '000001' : '000000'}\n`);
  await other.hears(/Type the six digits/);
  other.server.type(`${digits}\n`);
  await other.hears(/Signed in as Alice/);
});

test('in the background it asks for nothing, and serves', async (t) => {
  const server = await startServer({ command: 'demo', terminal: 'background', owner: t });
  await until('it has begun', () => server.process.output.stdout.includes('Ctrl-C stops'));
  await Page.connect(server);
  const { code } = await server.stop();
  assert.equal(code, 0);
  assert.doesNotMatch(server.process.output.stdout, /[█▀▄]/);
});
