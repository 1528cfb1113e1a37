// The one-file client in a real Chromium, loaded from the server by a page of another origin.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { connectionsOf } from '../../../tests/lib/api.js';
import { launch } from '../../../tests/lib/browser.js';
import { startServer } from '../../../tests/lib/server.js';
import { until, within } from '../../../tests/lib/until.js';
import { numbers, push, pushAcked } from './lib/client.js';
import { startProxy } from './lib/proxy.js';
import { startSite } from './lib/site.js';

const TABS = 8;
const PUSH_EVERY_MS = 10;

let browser;
let server;
before(async () => {
  browser = await launch();
  // Room for what comes while a tab that hangs is found out.
  server = await startServer({ config: '[mailbox]\nmessages = 10000\n' });
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

const stateOf = (tab) => tab.evaluate(() => ({ state: client.state, transport: client.transport }));
const got = (tab) => tab.evaluate(() => heard.got);

const open = (tab, transport) => tab.waitForFunction(
  (wanted) => client.state === 'open' && (!wanted || client.transport === wanted), transport, { timeout: 20_000 },
);
const has = (tab, count) => tab.waitForFunction((wanted) => heard.got.length >= wanted, count, { timeout: 60_000 });
const one = (uid, on = server) => until(`${uid} has one connection`, async () => await connectionsOf(on, uid) === 1, 60_000);

async function context(t) {
  const made = await browser.newContext();
  t.after(() => made.close().catch(() => {}));
  return made;
}

async function visit(from, url) {
  const tab = await from.newPage();
  await tab.goto(url);
  return tab;
}

/** `count` tabs of one browser profile, all open. */
async function tabs(t, uid, { count = TABS, on = server } = {}) {
  const site = await startSite(t, on.public);
  const profile = await context(t);
  const all = [];
  for (let n = 0; n < count; n += 1) all.push(await visit(profile, site.page(uid)));
  for (const tab of all) await open(tab);
  return { all, profile, site };
}

/** The tab that holds the connection: the only one with the origin's lock. */
async function leaderOf(all) {
  for (const tab of all) {
    const leads = await within('the page answers', tab.evaluate(async (probe) => {
      const { held } = await navigator.locks.query();
      // A lock of this tab's own has the same client id as the tab's doorbell.
      return navigator.locks.request(probe, async () => {
        const mine = (await navigator.locks.query()).held.find(({ name }) => name === probe).clientId;
        return held.some(({ name, clientId }) => name.startsWith('doorbell ') && clientId === mine);
      });
    }, `probe ${Math.random()}`));
    if (leads) return tab;
  }
  throw new Error('no tab leads');
}

/**
 * What a browser does to a page it freezes: it tells the page, then runs none of its code. A headless one never
 * freezes by itself, because all its pages are visible. Answers how to thaw the page.
 */
async function freeze(tab) {
  await tab.evaluate(() => { document.dispatchEvent(new Event('freeze')); });
  const session = await tab.context().newCDPSession(tab);
  await session.send('Debugger.enable');
  await session.send('Debugger.pause');
  return async () => {
    await session.send('Debugger.disable');
    await tab.evaluate(() => { document.dispatchEvent(new Event('resume')); });
  };
}

/** Pushes 1, 2, 3 … until stopped; `stop()` answers how many. */
function pushing(uid, on = server) {
  let going = true;
  const done = (async () => {
    let n = 0;
    while (going) {
      await push(on, uid, n += 1);
      await pause(PUSH_EVERY_MS);
    }
    return n;
  })();
  return { stop: () => { going = false; return done; } };
}

test('the server gives out the client with an ETag, for pages of any origin', async () => {
  const url = `http://${server.public.address}/doorbell.js`;
  const first = await fetch(url);
  assert.equal(first.status, 200);
  assert.match(first.headers.get('Content-Type'), /^text\/javascript/);
  assert.equal(first.headers.get('X-Content-Type-Options'), 'nosniff');
  assert.equal(first.headers.get('Access-Control-Allow-Origin'), '*');
  assert.match(first.headers.get('Cache-Control'), /max-age/);
  const ETag = first.headers.get('ETag');
  const second = await fetch(url, { headers: { 'If-None-Match': `"other", W/${ETag}` } });
  assert.deepEqual([second.status, await second.text(), second.headers.get('ETag')], [304, '', ETag]);
  assert.equal((await fetch(url, { headers: { 'If-None-Match': '"other"' } })).status, 200);
  assert.equal((await fetch(url, { method: 'HEAD' })).status, 200);
});

test('WebSocket blocked by a proxy: SSE; both blocked: long-poll; the same page, nothing missed', async (t) => {
  const proxy = await startProxy(t, server.public);
  proxy.refused.add('websocket');
  const site = await startSite(t, proxy);
  const tab = await visit(await context(t), site.page('blocked'));
  await open(tab, 'sse');
  assert.equal(await pushAcked(server, 'blocked', 1), 1);
  proxy.refused.add('sse');
  proxy.cut();
  for (const n of [2, 3]) await push(server, 'blocked', n);
  await open(tab, 'longpoll');
  await has(tab, 3);
  await until('it acknowledges', async () => await pushAcked(server, 'blocked', 4) === 1);
  assert.deepEqual([...new Set(await got(tab))], [1, 2, 3, 4]);
  assert.equal(proxy.seen.websocket, 0);
});

test('a reloaded page goes on where it was', async (t) => {
  const site = await startSite(t, server.public);
  const tab = await visit(await context(t), site.page('reloaded'));
  await open(tab);
  assert.equal(await pushAcked(server, 'reloaded', 1), 1);
  await tab.goto('about:blank');
  await until('it is away', async () => await connectionsOf(server, 'reloaded') === 0);
  for (const n of [2, 3]) await push(server, 'reloaded', n);
  await tab.goto(site.page('reloaded'));
  await has(tab, 2);
  assert.deepEqual(await got(tab), [2, 3]);
  assert.deepEqual(await tab.evaluate(() => heard.gaps), []);
});

test('eight tabs of one origin hold one connection, and each gets everything', async (t) => {
  const { all } = await tabs(t, 'eight');
  assert.equal(await connectionsOf(server, 'eight'), 1);
  for (const n of numbers(1, 50)) await push(server, 'eight', n);
  for (const tab of all) {
    await has(tab, 50);
    assert.deepEqual(await got(tab), numbers(1, 50));
  }
  assert.equal(await connectionsOf(server, 'eight'), 1);
});

test('tabs of two people do not share', async (t) => {
  const site = await startSite(t, server.public);
  const profile = await context(t);
  const [first, second] = [await visit(profile, site.page('ann')), await visit(profile, site.page('ben'))];
  for (const tab of [first, second]) await open(tab);
  await push(server, 'ann', 'for ann');
  await push(server, 'ben', 'for ben');
  await has(first, 1);
  await has(second, 1);
  assert.deepEqual([await got(first), await got(second)], [['for ann'], ['for ben']]);
});

for (const [how, leave] of [
  ['is closed', (tab) => tab.close()],
  ['goes to another page', (tab) => tab.goto('about:blank')],
  ['crashes', async (tab) => {
    const crashed = tab.waitForEvent('crash');
    const session = await tab.context().newCDPSession(tab);
    session.send('Page.crash').catch(() => {});
    await crashed;
  }],
  ['is frozen by the browser', freeze],
  ['hangs', (tab) => { tab.evaluate(() => { for (;;); }).catch(() => {}); }],
]) {
  test(`the tab that holds the connection ${how}: another takes over, nothing is lost or doubled`, async (t) => {
    const uid = `leader-${how.replaceAll(' ', '-')}`;
    const { all } = await tabs(t, uid);
    const leader = await leaderOf(all);
    const rest = all.filter((tab) => tab !== leader);
    const before = (await rest[0].evaluate(() => client.connectionId));
    const pusher = pushing(uid);
    await has(rest[0], 20);
    await leave(leader);
    await until('another connection is there', async () => {
      const now = await rest[0].evaluate(() => client.state === 'open' && client.connectionId);
      return now && now !== before;
    }, 60_000);
    const mark = (await got(rest[0])).length;
    await has(rest[0], mark + 20);
    const count = await pusher.stop();
    for (const tab of rest) {
      await has(tab, count);
      assert.deepEqual(await got(tab), numbers(1, count));
      assert.deepEqual(await tab.evaluate(() => heard.gaps), []);
    }
    await within('the new leader is found', leaderOf(rest), 20_000);
    if (how !== 'hangs') await one(uid);
  });
}

test('a frozen tab that is shown again has everything', async (t) => {
  const { all: [first, second, third] } = await tabs(t, 'thaw', { count: 3 });
  const leader = await leaderOf([first, second, third]);
  for (const n of [1, 2]) await push(server, 'thaw', n);
  await has(leader, 2);
  const thaw = await freeze(leader);
  const others = [first, second, third].filter((tab) => tab !== leader);
  for (const n of [3, 4]) await push(server, 'thaw', n);
  for (const tab of others) await has(tab, 4);
  await thaw();
  await has(leader, 4);
  for (const tab of [first, second, third]) assert.deepEqual(await got(tab), [1, 2, 3, 4]);
  await one('thaw');
});

test('one leader after another is closed while messages come', async (t) => {
  const { all } = await tabs(t, 'row');
  const pusher = pushing('row');
  let left = all;
  while (left.length > 1) {
    const leader = await within('there is a leader', until('a tab leads', () => leaderOf(left).catch(() => undefined)), 20_000);
    left = left.filter((tab) => tab !== leader);
    const mark = (await got(left[0])).length;
    await leader.close();
    await has(left[0], mark + 20);
  }
  const count = await pusher.stop();
  await has(left[0], count);
  assert.deepEqual(await got(left[0]), numbers(1, count));
  await one('row');
});

test('a tab that comes later, or is reloaded, joins the connection that is there', async (t) => {
  const { all: [first, second], profile, site } = await tabs(t, 'later', { count: 2 });
  await push(server, 'later', 1);
  for (const tab of [first, second]) await has(tab, 1);
  const leader = await leaderOf([first, second]);
  const follower = leader === first ? second : first;
  await follower.goto('about:blank');
  await push(server, 'later', 2);
  await follower.goto(site.page('later'));
  await has(follower, 1);
  assert.deepEqual(await got(follower), [2], 'what it missed while it was reloaded');
  const third = await visit(profile, site.page('later'));
  await open(third);
  await push(server, 'later', 3);
  for (const [tab, expected] of [[leader, [1, 2, 3]], [follower, [2, 3]], [third, [3]]]) {
    await has(tab, expected.length);
    assert.deepEqual(await got(tab), expected);
  }
  await one('later');
});

test('the server is restarted: all tabs come back on one connection and are told of the gap', async (t) => {
  const first = await startServer();
  const { all } = await tabs(t, 'restarted', { count: 3, on: first });
  await push(first, 'restarted', 1);
  for (const tab of all) await has(tab, 1);
  await first.process.child.kill('SIGKILL');
  await first.process.exited;
  for (const tab of all) await tab.waitForFunction(() => client.state === 'reconnecting');
  const second = await startServer({ ports: { public: first.public.address }, owner: t });
  t.after(() => first.stop());
  for (const tab of all) await open(tab);
  await push(second, 'restarted', 2);
  for (const tab of all) {
    await has(tab, 2);
    assert.deepEqual(await got(tab), [1, 2]);
    assert.equal(await tab.evaluate(() => heard.gaps.length), 1);
  }
  await one('restarted', second);
});

test('offline and online again', async (t) => {
  const proxy = await startProxy(t, server.public);
  const site = await startSite(t, proxy);
  const profile = await context(t);
  const tab = await visit(profile, site.page('offline'));
  await open(tab);
  assert.equal(await pushAcked(server, 'offline', 1), 1);
  proxy.dark = proxy.down = true;
  await profile.setOffline(true);
  await tab.waitForFunction(() => client.state === 'reconnecting', undefined, { timeout: 20_000 });
  await push(server, 'offline', 2);
  proxy.dark = proxy.down = false;
  await profile.setOffline(false);
  await has(tab, 2);
  assert.deepEqual(await got(tab), [1, 2]);
  assert.equal((await stateOf(tab)).state, 'open');
  await one('offline');
});
