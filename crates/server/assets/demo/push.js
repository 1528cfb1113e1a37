// The demonstration page: waits as a uid over the plain dialect and shows what was pushed to it.
// Everything that comes from outside is written with textContent, never as markup.
'use strict';

const TEXTS = {
  en: {
    connectHeading: '1. Wait as somebody',
    uid: 'uid',
    connect: 'Connect',
    disconnect: 'Disconnect',
    pushHeading: '2. Ring that door',
    pushUid: 'To uid',
    pushData: 'Data',
    push: 'Push',
    messagesHeading: 'What this page heard',
    noMessages: 'Nothing yet. The newest message will be on top.',
    commandsHeading: 'The same push from your backend',
    commandsHint: 'Run these on the machine that runs Doorbell. They follow the form above.',
    commandCli: 'Command line',
    copy: 'Copy',
    copied: 'Copied.',
    notCopied: 'Not copied: select the text and copy it yourself.',
    idle: () => 'Not connected',
    connecting: (uid) => `Connecting as ${uid} …`,
    connected: (uid) => `Connected as ${uid}`,
    reconnecting: (why, seconds) => `${why} Trying again in ${seconds} s …`,
    closed: (why) => why,
    heard: (answer) => `Heard by ${answer.written} ${answer.written === 1 ? 'connection' : 'connections'}.`,
    unheard: () => 'Nobody heard it: no page is connected as that uid.',
    pushFailed: (why) => `Not pushed: ${why}`,
    noAnswer: 'the server did not answer',
    closeCode: (code) => `Closed with code ${code}.`,
    codes: {
      1000: 'Closed normally.',
      1001: 'The server is going away.',
      1002: 'Closed: protocol error.',
      1006: 'The connection was lost or refused.',
      1007: 'Closed: invalid UTF-8.',
      1008: 'Closed: not allowed.',
      1009: 'Closed: the message was too big.',
      1011: 'Closed: an error in the server.',
      3001: 'The server is restarting.',
      3002: 'The token has expired.',
      3008: 'Closed: this page read too slowly.',
      3500: 'Closed: this uid or token is not accepted.',
      3501: 'Closed by an administrator.',
      3502: 'Closed: no uid arrived in time.',
    },
  },
  zh: {
    connectHeading: '1. 以某个 uid 等待',
    uid: 'uid',
    connect: '连接',
    disconnect: '断开',
    pushHeading: '2. 按响门铃',
    pushUid: '推送给 uid',
    pushData: '数据',
    push: '推送',
    messagesHeading: '本页收到的消息',
    noMessages: '还没有消息。最新的消息会显示在最上面。',
    commandsHeading: '从你的后端推送同样的内容',
    commandsHint: '请在运行 Doorbell 的机器上执行。命令会随上面的表单变化。',
    commandCli: '命令行',
    copy: '复制',
    copied: '已复制。',
    notCopied: '未能复制:请手动选择文本复制。',
    idle: () => '未连接',
    connecting: (uid) => `正在以 ${uid} 连接……`,
    connected: (uid) => `已以 ${uid} 连接`,
    reconnecting: (why, seconds) => `${why}${seconds} 秒后重试……`,
    closed: (why) => why,
    heard: (answer) => `已送达 ${answer.written} 个连接。`,
    unheard: () => '没有人收到:没有页面以该 uid 连接。',
    pushFailed: (why) => `推送失败:${why}`,
    noAnswer: '服务器没有应答',
    closeCode: (code) => `连接已关闭,代码 ${code}。`,
    codes: {
      1000: '连接已正常关闭。',
      1001: '服务器正在离开。',
      1002: '连接已关闭:协议错误。',
      1006: '连接中断或被拒绝。',
      1007: '连接已关闭:UTF-8 无效。',
      1008: '连接已关闭:不被允许。',
      1009: '连接已关闭:消息过大。',
      1011: '连接已关闭:服务器出错。',
      3001: '服务器正在重启。',
      3002: '令牌已过期。',
      3008: '连接已关闭:本页读取太慢。',
      3500: '连接已关闭:该 uid 或令牌不被接受。',
      3501: '已被管理员断开。',
      3502: '连接已关闭:没有及时发送 uid。',
    },
  },
};

const BACKOFF_FIRST_SECONDS = 0.5;
const BACKOFF_MOST_SECONDS = 20;
// A connection that held this long was a good one: the next loss starts the backoff anew.
const STABLE_AFTER_SECONDS = 5;
const MOST_MESSAGES = 100;

const query = new URLSearchParams(location.search);

// --- The connection ---------------------------------------------------------------------------

let socket = null;
let retry = null;
let credentials = null;
let attempt = 0;
let status = { state: 'idle' };

function setStatus(next) {
  status = next;
  showStatus();
}

function showStatus() {
  const texts = TEXTS[Language.current];
  const why = 'code' in status ? (texts.codes[status.code] ?? texts.closeCode(status.code)) : '';
  const words = {
    idle: () => texts.idle(),
    connecting: () => texts.connecting(status.uid),
    connected: () => texts.connected(status.uid),
    reconnecting: () => texts.reconnecting(why, status.seconds.toFixed(1)),
    closed: () => texts.closed(why),
  };
  byId('status').dataset.state = status.state;
  byId('status-text').textContent = words[status.state]();
  const active = status.state !== 'idle' && status.state !== 'closed';
  byId('disconnect-button').hidden = !active;
}

function comesBack(code) {
  return code === 1001 || code === 1006 || (code >= 1011 && code <= 1014) || (code >= 3000 && code < 3500);
}

// What the first message says: the uid itself or, where tokens are asked for, a token for it.
async function credentialOf(uid) {
  await known;
  if (addresses.identity !== 'token') return uid;
  const response = await fetch('/demo/token', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ uid }),
  });
  if (!response.ok) return uid;
  return (await response.json()).token;
}

async function connect(uid) {
  hangUp();
  setStatus({ state: 'connecting', uid });
  const turn = credentials = {};
  let credential = uid;
  try { credential = await credentialOf(uid); } catch { /* the connection will say that the server is gone */ }
  if (credentials !== turn) return;
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
  const current = new WebSocket(`${scheme}://${location.host}/`);
  let openedAt = null;
  socket = current;
  current.addEventListener('open', () => {
    openedAt = performance.now();
    current.send(credential);
    if (socket === current) setStatus({ state: 'connected', uid });
  });
  current.addEventListener('message', (event) => {
    if (socket === current) showMessage(event.data);
  });
  current.addEventListener('close', (event) => {
    if (socket !== current) return;
    socket = null;
    if (openedAt !== null && performance.now() - openedAt > STABLE_AFTER_SECONDS * 1000) attempt = 0;
    if (comesBack(event.code)) reconnectLater(uid, event.code);
    else setStatus({ state: 'closed', code: event.code });
  });
}

// Full jitter: a crowd of pages that lost the same server does not return in step.
function reconnectLater(uid, code) {
  const ceiling = Math.min(BACKOFF_MOST_SECONDS, BACKOFF_FIRST_SECONDS * 2 ** attempt);
  const seconds = Math.random() * ceiling;
  attempt += 1;
  setStatus({ state: 'reconnecting', code, seconds });
  retry = setTimeout(() => connect(uid), seconds * 1000);
}

function hangUp() {
  clearTimeout(retry);
  credentials = null;
  const last = socket;
  socket = null;
  last?.close(1000);
}

byId('connect').addEventListener('submit', (event) => {
  event.preventDefault();
  attempt = 0;
  connect(byId('uid').value);
});

byId('disconnect-button').addEventListener('click', () => {
  hangUp();
  setStatus({ state: 'closed', code: 1000 });
});

// --- Messages ---------------------------------------------------------------------------------

// Indented when it is a JSON structure and indenting changes nothing but white space: a number beyond 2^53, a
// repeated key or an escape is shown as it came.
function pretty(text) {
  let value;
  try { value = JSON.parse(text); } catch { return text; }
  if (value === null || typeof value !== 'object') return text;
  const bare = (json) => json.replace(/\s/g, '');
  return bare(JSON.stringify(value)) === bare(text) ? JSON.stringify(value, null, 2) : text;
}

function showMessage(text) {
  const item = document.createElement('li');
  const when = document.createElement('time');
  const now = new Date();
  when.dateTime = now.toISOString();
  when.textContent = now.toLocaleTimeString(Language.current === 'zh' ? 'zh-CN' : 'en');
  const body = document.createElement('pre');
  body.textContent = pretty(text);
  body.dataset.raw = text;
  item.append(when, body);
  const list = byId('messages');
  list.prepend(item);
  while (list.children.length > MOST_MESSAGES) list.lastElementChild.remove();
  byId('no-messages').hidden = true;
}

// --- Pushing ----------------------------------------------------------------------------------

let pushResult = null;

function showPushResult() {
  const line = byId('push-result');
  if (pushResult === null) return;
  const texts = TEXTS[Language.current];
  line.dataset.outcome = pushResult.outcome;
  line.textContent = {
    heard: () => texts.heard(pushResult.answer),
    unheard: () => texts.unheard(),
    failed: () => texts.pushFailed(pushResult.why ?? texts.noAnswer),
  }[pushResult.outcome]();
}

async function pushOnce(uid, data) {
  let response;
  try {
    response = await fetch('/demo/push', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ uid, data }),
    });
  } catch {
    return { outcome: 'failed' };
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok) {
    return { outcome: 'failed', why: answer?.detail ?? answer?.title ?? `HTTP ${response.status}` };
  }
  return answer?.written > 0 ? { outcome: 'heard', answer } : { outcome: 'unheard' };
}

byId('push').addEventListener('submit', async (event) => {
  event.preventDefault();
  byId('push-button').disabled = true;
  pushResult = await pushOnce(byId('push-uid').value, byId('push-data').value);
  byId('push-button').disabled = false;
  showPushResult();
});

// --- The commands -----------------------------------------------------------------------------

let known = null;
let addresses = {
  identity: 'open',
  text: '127.0.0.1:10002',
  api: '127.0.0.1:10003',
  push_command: 'doorbell push',
  key_file: 'api.key',
};

function shellQuoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function shellWord(text) {
  return /^[\w.,:@%+=/-]+$/.test(text) ? text : shellQuoted(text);
}

function phpQuoted(text) {
  return `"${text.replace(/[\\"$]/g, '\\$&').replaceAll('\n', '\\n')}"`;
}

// What a backend would put into JSON: the value when the text is JSON, else the text.
function valueOf(text) {
  try { return JSON.parse(text); } catch { return text; }
}

// One line for the text port: an object is sent as it is with the uid added, anything else under "data".
function lineFor(uid, text) {
  const value = valueOf(text);
  const isObject = value !== null && typeof value === 'object' && !Array.isArray(value);
  return JSON.stringify(isObject ? { uid, ...value, uid } : { uid, data: value });
}

function showCommands() {
  const uid = byId('push-uid').value;
  const data = byId('push-data').value;
  byId('command-cli').textContent = `${addresses.push_command} ${shellWord(uid)} ${shellQuoted(data)}`;
  const php = `$s = stream_socket_client("tcp://${addresses.text}"); `
    + `fwrite($s, ${phpQuoted(lineFor(uid, data))} . "\\n"); echo fgets($s);`;
  byId('command-php').textContent = `php -r ${shellQuoted(php)}`;
  byId('command-curl').textContent = `curl -sS http://${addresses.api}/v1/push`
    + ` -H "Authorization: Bearer $(cat ${shellWord(addresses.key_file)})"`
    + ` -H 'Content-Type: application/json' -d ${shellQuoted(JSON.stringify({ uid, data: valueOf(data) }))}`;
}

async function learnAddresses() {
  try {
    const response = await fetch('/demo/config.json');
    if (response.ok) addresses = { ...addresses, ...await response.json() };
  } catch { /* the usual ports are shown */ }
  showCommands();
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

for (const button of document.querySelectorAll('.copy')) {
  button.addEventListener('click', async () => {
    const source = byId(button.dataset.copies);
    const done = await copy(source.textContent);
    byId('copied').textContent = TEXTS[Language.current][done ? 'copied' : 'notCopied'];
    if (!done) getSelection().selectAllChildren(source);
  });
}

byId('push-uid').addEventListener('input', showCommands);
byId('push-data').addEventListener('input', showCommands);

// --- Start ------------------------------------------------------------------------------------

if (query.get('uid')) {
  byId('uid').value = query.get('uid');
  byId('push-uid').value = query.get('uid');
}
Language.start(TEXTS, () => {
  showStatus();
  showPushResult();
  byId('copied').textContent = '';
});
known = learnAddresses();
