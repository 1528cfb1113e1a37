// A walk through every page that a sign-in can show, on both machines.

import { asClient, code, computer, inState, part, phone } from './login.js';
import { startServer } from './server.js';

const NUMBER = ['numbers', 'to_phone'];
const DIGITS = ['digits', 'to_browser'];
const clients = [NUMBER, DIGITS].map(([id, match]) => `
[[login.clients]]
id = "${id}"
name = "Doorbell demo"
providers = ["demo"]
number_match = "${match}"`).join('');
const OWN_APP = `
[[login.clients]]
id = "app-only"
name = "Doorbell demo"
providers = ["app"]`;

/** What a walk sees, `machine state`, in order. */
export const STATES = [
  'computer pending', 'phone scan', 'computer scanned', 'phone consent', 'computer signed-in', 'phone signed-in', 'computer ended',
  'phone ended', 'computer denied', 'phone refused', 'phone taken', 'phone elsewhere', 'computer cancelled', 'phone cancelled',
  'computer number', 'phone number', 'phone wrong-number', 'phone numbers-used-up', 'computer digits', 'phone digits',
  'phone agreed', 'phone own-app', 'phone renewed', 'computer expired', 'phone expired', 'phone unknown', 'phone type-code',
  'phone wrong-code', 'computer offline',
];

/**
 * Walks from page to page and calls `visit(machine, state, page)` on each.
 *
 * `onComputer` and `onPhone` are options of the two browsers, such as `colorScheme` and `viewport`.
 */
export async function tour(owner, { onComputer = {}, onPhone = {} }, visit) {
  // One network is where the computer is, another where the second phone says it is.
  const config = (login) => `[public]\ntrusted_proxies = ["127.0.0.1"]\n[login]\n${login}\n${clients}${OWN_APP}`;
  // A code that is renewed while its page is looked at would be another one than the phone opens.
  const server = await startServer({ command: 'demo', config: config('created_ttl = "10m"\nrotate = "10m"'), owner });
  const address = `http://${server.public.address}/`;
  const { page, context } = await computer(owner, address, onComputer);
  await context.setExtraHTTPHeaders({ 'X-Forwarded-For': '198.51.100.23' });
  await page.goto(address);
  const near = { ...onPhone, extraHTTPHeaders: { 'X-Forwarded-For': '198.51.100.40' } };
  const mobile = (await phone(owner, near)).page;
  const headed = (on, text) => on.waitForFunction((part) => document.querySelector('h1').textContent.includes(part), text);
  const renew = async (before) => {
    await page.evaluate(() => document.querySelector('doorbell-login').renew());
    return code(page, before);
  };
  const as = async (client) => {
    await page.goto(address);
    await asClient(page, client);
    return code(page);
  };
  const scan = async (on, shown) => {
    await on.goto(shown);
    await on.waitForSelector('#approve');
  };

  // Agree, and take it back.
  let shown = await code(page);
  await visit('computer', 'pending', page);
  const unseen = await (await phone(owner, near)).context.newPage();
  await unseen.addInitScript(() => Object.defineProperty(document, 'visibilityState', { get: () => 'hidden' }));
  await unseen.goto(shown);
  await visit('phone', 'scan', unseen);
  await scan(mobile, shown);
  await inState(page, 'scanned');
  await visit('computer', 'scanned', page);
  await visit('phone', 'consent', mobile);
  await mobile.click('#approve button');
  await page.waitForSelector('#signed-in:not([hidden])');
  await visit('computer', 'signed-in', page);
  await headed(mobile, 'You are signed in');
  await visit('phone', 'signed-in', mobile);
  await mobile.click('text=That was not me');
  await page.waitForSelector('#ended:not([hidden])');
  shown = await code(page, shown);
  await visit('computer', 'ended', page);
  await visit('phone', 'ended', mobile);

  // Refuse; a second phone; another network; giving up.
  await scan(mobile, shown);
  await mobile.click('#deny button');
  await inState(page, 'denied');
  await visit('computer', 'denied', page);
  await headed(mobile, 'Refused');
  await visit('phone', 'refused', mobile);
  shown = await renew(shown);
  await scan(mobile, shown);
  const far = await phone(owner, { ...onPhone, extraHTTPHeaders: { 'X-Forwarded-For': '203.0.113.77' } });
  await far.page.goto(shown);
  await headed(far.page, 'Another phone');
  await visit('phone', 'taken', far.page);
  shown = await renew(shown);
  await scan(far.page, shown);
  await visit('phone', 'elsewhere', far.page);
  await page.evaluate(() => document.querySelector('doorbell-login').cancel());
  await inState(page, 'cancelled');
  await visit('computer', 'cancelled', page);
  await headed(far.page, 'gave up');
  await visit('phone', 'cancelled', far.page);

  // Numbers.
  shown = await as(NUMBER[0]);
  await part(page, 'number').waitFor();
  await visit('computer', 'number', page);
  await scan(mobile, shown);
  await visit('phone', 'number', mobile);
  const number = await part(page, 'number').textContent();
  for (let tries = 0; tries < 3; tries += 1) {
    await mobile.fill('#number', number === '00' ? '01' : '00');
    await mobile.click('#approve button');
    await (tries < 2 ? mobile.waitForSelector(`text=${tries ? 'One try' : '2 tries'}`) : headed(mobile, 'wrong number'));
    if (tries === 0) await visit('phone', 'wrong-number', mobile);
  }
  await visit('phone', 'numbers-used-up', mobile);
  shown = await as(DIGITS[0]);
  await scan(mobile, shown);
  await mobile.click('#approve button');
  await part(page, 'input').waitFor();
  await visit('computer', 'digits', page);
  await visit('phone', 'digits', mobile);
  await part(page, 'input').fill(await mobile.getAttribute('.digits', 'aria-label'));
  await part(page, 'input').press('Enter');
  await headed(mobile, 'Agreed');
  await visit('phone', 'agreed', mobile);
  await mobile.goto(await as('app-only'));
  await visit('phone', 'own-app', mobile);

  // What time does; and codes that are none.
  await server.stop();
  await part(page, 'link').filter({ hasText: /./ }).waitFor();
  await visit('computer', 'offline', page);
  const short = await startServer({
    command: 'demo', config: config('created_ttl = "6s"\nrotate = "2s"\nrotate_grace = "0s"'), owner,
  });
  const quick = `http://${short.public.address}/`;
  // Once it has expired the page does not say any more what its last code was.
  let last = null;
  page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => {
    last = /"verification_uri_complete":"([^"]*)"/.exec(payload)?.[1] ?? last;
  }));
  await page.goto(quick);
  shown = await code(page);
  await code(page, shown);
  await mobile.goto(shown);
  await headed(mobile, 'renewed');
  await visit('phone', 'renewed', mobile);
  await inState(page, 'expired');
  await visit('computer', 'expired', page);
  await mobile.goto(last);
  await headed(mobile, 'expired');
  await visit('phone', 'expired', mobile);
  await mobile.goto(`${quick}s/${'A'.repeat(43)}`);
  await visit('phone', 'unknown', mobile);
  await mobile.goto(`${quick}s`);
  await visit('phone', 'type-code', mobile);
  await mobile.fill('#code', 'BBBB-BBBB');
  await mobile.click('button');
  await mobile.waitForSelector('#wrong');
  await visit('phone', 'wrong-code', mobile);
}
