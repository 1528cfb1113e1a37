// Two people's machines for a sign-in: a computer that shows the code, and a phone that opens it.

import { launchProfile } from './browser.js';

const PHONE = {
  viewport: { width: 390, height: 844 },
  isMobile: true,
  hasTouch: true,
  userAgent: 'Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36',
};

/** The page of a computer: `{ page, complaints }`; whatever the browser complains about is collected. */
export async function computer(owner, address, options = {}) {
  const context = await launchProfile(owner, { locale: 'en-US', ...options });
  const page = context.pages()[0] ?? await context.newPage();
  const complaints = watched(page);
  await page.goto(address);
  return { context, page, complaints };
}

/** A phone that has scanned nothing yet. */
export async function phone(owner, options = {}) {
  const context = await launchProfile(owner, { locale: 'en-US', ...PHONE, ...options });
  const page = context.pages()[0] ?? await context.newPage();
  return { context, page, complaints: watched(page) };
}

function watched(page) {
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  // What the server refuses is what some tests are about.
  page.on('console', (line) => line.type() === 'error' && !/status of 4\d\d/.test(line.text()) && complaints.push(line.text()));
  return complaints;
}

/** What the QR code of the page's <doorbell-login> says, once it shows one other than `before`. */
export async function code(page, before = null) {
  const shown = await page.waitForFunction(
    (old) => {
      const { address } = document.querySelector('doorbell-login');
      return address && address !== old ? address : null;
    },
    before,
  );
  return shown.jsonValue();
}

/** Waits until the page's <doorbell-login> is in this state. */
export function inState(page, state, timeout = 10_000) {
  return page.waitForFunction(
    (wanted) => document.querySelector('doorbell-login')?.state === wanted, state, { timeout },
  );
}

/** A part of the page's <doorbell-login>, such as `number`; its parts are what the element promises to sites. */
export const part = (page, name) => page.locator(`doorbell-login [part="${name}"]`);

/** Puts another <doorbell-login> in the place of the page's: that of another client. */
export async function asClient(page, client) {
  await page.waitForFunction(() => customElements.get('doorbell-login'));
  await page.evaluate((id) => {
    const login = document.querySelector('doorbell-login');
    const other = document.createElement('doorbell-login');
    other.setAttribute('client-id', id);
    login.replaceWith(other);
  }, client);
}

/** Scans: opens the code's address, as a phone's camera does, and waits for the question. */
export async function scan({ page }, address) {
  await page.goto(address);
  await page.waitForSelector('#approve');
}

/** The heading of the phone's page. */
export const heading = (page) => page.textContent('h1');
