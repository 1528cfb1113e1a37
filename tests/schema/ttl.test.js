// A `ttl` at its bounds: what its pattern in /openapi.json allows is what the API takes, and nothing else is.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { call } from '../lib/api.js';
import { startServer } from '../lib/server.js';

const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
const WEEK_MS = 7 * 24 * 3_600_000;

/** The whole numbers around each bound and each change of the number of digits, with and without leading zeros. */
function* texts() {
  for (const [unit, ms] of Object.entries(UNITS)) {
    const bounds = [Math.ceil(1_000 / ms), Math.floor(WEEK_MS / ms)];
    const powers = Array.from({ length: 11 }, (_, digits) => 10 ** digits);
    for (const near of [...bounds, ...powers]) {
      for (const number of [near - 1, near, near + 1]) {
        if (number < 0) continue;
        yield [`${number}${unit}`, number * ms];
        yield [`00${number}${unit}`, number * ms];
      }
    }
  }
  for (const odd of ['', 's', '1', '-1s', '+1s', '1.0s', ' 1s', '1s ', '1S', '1d', '1sm', '١s', '1e3s', '18446744073709551616ms']) {
    yield [odd, null];
  }
}

const CALLS = [
  ['Ttl', 0, '/v1/groups/nobody/push', { data: 1 }],
  ['TokenTtl', 1_000, '/v1/tokens', { uid: 'u' }],
];

for (const [schema, least, path, request] of CALLS) {
  test(`a ${schema} is taken from ${least} ms to seven days`, async (t) => {
    const server = await startServer({ owner: t, identity: 'token' });
    const { components } = await (await fetch(`http://${server.api.address}/openapi.json`)).json();
    const [seconds, text] = components.schemas[schema].oneOf;
    const pattern = new RegExp(text.pattern, 'u');
    const taken = async (ttl) => {
      const { status, body } = await call(server, 'POST', path, { ...request, ttl });
      if (status === 400) assert.match(body.detail, new RegExp(`from ${least / 1_000} s to 7 days`));
      return status === 200;
    };
    for (const [ttl, ms] of texts()) {
      const right = ms !== null && ms >= least && ms <= WEEK_MS;
      assert.equal(pattern.test(ttl), right, `the pattern and "${ttl}"`);
      assert.equal(await taken(ttl), right, `the API and "${ttl}"`);
    }
    assert.deepEqual([seconds.minimum, seconds.maximum], [least / 1_000, WEEK_MS / 1_000]);
    for (const [ttl, right] of [[seconds.minimum - 1, false], [seconds.minimum, true], [seconds.maximum, true], [seconds.maximum + 1, false]]) {
      // A negative number is of no ttl's shape, which has its own words.
      if (ttl >= 0) assert.equal(await taken(ttl), right, `the API and ${ttl}`);
    }
  });
}
