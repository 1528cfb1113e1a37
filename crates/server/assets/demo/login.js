// The sign-in page of the demonstration: <doorbell-login> does the sign-in, this file what a site does with it.
'use strict';

const TEXTS = {
  en: {
    signedInHint: 'Your phone can end this: tap “That was not me” there and watch this page.',
    signOut: 'Sign out',
    howHeading: 'What happens here',
    howScan: 'Scan the code with your phone’s camera.',
    howLook: 'The phone shows which computer asks, and since when. Agree or refuse.',
    howGoOn: 'This page, and no other, goes on. Whoever only saw the code gets nothing.',
    openPhone: 'Open the phone’s page in a window',
    noPhoneHint: 'No phone at hand? The window does what a phone would.',
    heardHeading: 'What this page heard',
    signedInAs: (name) => `Signed in as ${name}`,
    ended: 'Signed out: the phone ended it.',
    signedOut: 'Signed out.',
    notEnded: 'Signed out here, but the server did not end the token.',
    failed: 'The one-time code was not accepted. Scan once more.',
  },
  zh: {
    signedInHint: '手机可以随时结束登录：在手机上点“不是我本人操作”，看看本页的变化。',
    signOut: '退出登录',
    howHeading: '这里发生了什么',
    howScan: '用手机相机扫描二维码。',
    howLook: '手机会显示是哪台电脑、什么时候请求的，由您同意或拒绝。',
    howGoOn: '只有这个页面会继续。仅仅看到二维码的人什么也得不到。',
    openPhone: '在新窗口打开手机页面',
    noPhoneHint: '手边没有手机？这个窗口可以代替手机。',
    heardHeading: '本页收到的消息',
    signedInAs: (name) => `已登录：${name}`,
    ended: '已退出登录：手机结束了这次登录。',
    signedOut: '已退出登录。',
    notEnded: '本页已退出登录，但服务器未能使令牌失效。',
    failed: '一次性代码未被接受，请再扫一次。',
  },
};

const MOST_STEPS = 12;
const SESSION = 'doorbell-demo-session';
const login = byId('login');
let session = null;
let notice = null;
let socket = null;

// --- The sign-in ------------------------------------------------------------------------------

login.addEventListener('doorbell-login:state', ({ detail: { state, version } }) => {
  if (version !== undefined) {
    const item = document.createElement('li');
    item.textContent = `${new Date().toLocaleTimeString(document.documentElement.lang)}  ${state} (${version})`;
    byId('trail').prepend(item);
    while (byId('trail').children.length > MOST_STEPS) byId('trail').lastElementChild.remove();
  }
  if (state === 'scanned') notice = null;
  show();
});

// The one-time code is good once, for a minute, and only with the verifier that never left this page.
login.addEventListener('doorbell-login:approved', async ({ detail: { code, code_verifier: verifier } }) => {
  try {
    const response = await fetch('/v1/token', {
      method: 'POST',
      body: new URLSearchParams({ grant_type: 'authorization_code', client_id: 'demo', code, code_verifier: verifier }),
    });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    const { access_token: token, identity } = await response.json();
    enter({ token, name: identity.name ?? identity.id });
  } catch {
    leave('failed');
    login.renew();
  }
});

function enter(next) {
  session = next;
  notice = null;
  Kept.set('sessionStorage', SESSION, JSON.stringify(session));
  show();
  byId('who').focus();
  listen();
}

function leave(why) {
  session = null;
  notice = why;
  Kept.forget('sessionStorage', SESSION);
  hangUp();
  show();
}

// What the login gave is ended on the server, not only forgotten here (RFC 7009); the phone is told, too.
async function signOut() {
  // Before the server closes it, which would look like the phone's doing.
  hangUp();
  const body = new URLSearchParams({ client_id: 'demo', token: session.token });
  const ended = await fetch('/v1/revoke', { method: 'POST', body }).then(({ ok }) => ok, () => false);
  leave(ended ? 'signedOut' : 'notEnded');
}

function hangUp() {
  const last = socket;
  socket = null;
  last?.close();
}

// Waits as the uid that signed in: a login that is ended closes its connections, with 3500.
function listen() {
  const current = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`, 'doorbell.v1');
  socket = current;
  current.addEventListener('open', () => current.send(JSON.stringify({ type: 'hello', token: session.token })));
  current.addEventListener('close', (event) => {
    if (socket !== current) return;
    if (event.code >= 3500 && event.code < 4000) leave('ended');
    else setTimeout(() => socket === current && session && listen(), 500 + Math.random() * 2000);
  });
}

function show() {
  const texts = TEXTS[Language.current];
  // While somebody is signed in no login is begun; back in its place, the element begins one by itself.
  if (session !== null) login.remove();
  else if (!login.isConnected) byId('signed-out').append(login);
  byId('signed-out').hidden = session !== null;
  byId('signed-in').hidden = session === null;
  byId('who').textContent = session ? texts.signedInAs(session.name) : '';
  byId('ended').hidden = notice === null;
  byId('ended').textContent = notice ? texts[notice] : '';
  byId('open-phone').disabled = session !== null || !login.address;
}

byId('sign-out').addEventListener('click', signOut);

// What a phone's camera would open.
byId('open-phone').addEventListener('click', () => {
  if (login.address) window.open(login.address, 'doorbell-phone', 'width=400,height=780');
});

// --- Start ------------------------------------------------------------------------------------

Language.start(TEXTS, () => {
  login.setAttribute('lang', Language.current);
  show();
});
const kept = JSON.parse(Kept.get('sessionStorage', SESSION));
if (kept !== null) enter(kept);
