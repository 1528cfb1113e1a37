// The page that a mini-program code opens: which computer asks, and what its owner answers. Beside it, login.wxml.

const SERVER = 'https://login.example.com'; // the server's `public.url`, a "request" domain of the mini program
const PROVIDER = 'wechat';                  // its section, [providers.wechat]

/** What people read, by the server's `error`. */
const SAID = {
  already_scanned: '二维码已被另一部手机扫描。Another phone has scanned this code.',
  provider_stale: '二维码已过期，请在电脑上刷新。This code is too old: have the computer show a new one.',
  provider_unwelcome: '微信暂不允许此帐号登录。WeChat does not allow this account to log in now.',
  provider_unavailable: '微信暂时没有回应，请再扫一次。No answer from WeChat: scan the code again.',
  expired_token: '二维码已过期，请在电脑上刷新。This code is too old: have the computer show a new one.',
  cancelled: '电脑上已取消登录。The computer has given up.',
  access_denied: '已拒绝。Refused.',
  number: '数字不对。That is not the number.',
};

function ask(method, path, data, visit) {
  return new Promise((answered, failed) => {
    wx.request({
      url: SERVER + path,
      method,
      data,
      header: {
        'content-type': 'application/json',
        ...(visit && { Authorization: `Bearer ${visit}` }),
      },
      success: ({ statusCode, data: answer }) => (statusCode === 200 ? answered(answer) : failed(answer)),
      fail: () => failed({ error: 'network' }),
    });
  });
}

Page({
  data: { login: null, said: '', number: '' },

  /** Opened by a scan: takes the login for this person. Nobody is logged in by that. */
  onLoad({ scene }) {
    wx.login({
      success: ({ code }) => ask('POST', `/v1/callback/${PROVIDER}`, { scene: decodeURIComponent(scene), code })
        .then(({ qr, visit, ...login }) => {
          Object.assign(this, { qr, visit });
          this.setData({ login });
        })
        .catch((answer) => this.failed(answer)),
      fail: () => this.failed({ error: 'network' }),
    });
  },

  typed({ detail }) {
    this.setData({ number: detail.value });
  },

  agree() {
    return this.answer('approve', this.data.number ? { number: this.data.number } : {});
  },

  refuse() {
    return this.answer('deny', {});
  },

  /** "That was not me", for a day after. */
  revoke() {
    return this.answer('revoke', {});
  },

  answer(what, data) {
    return ask('POST', `/s/${this.qr}/${what}`, data, this.visit)
      .then((login) => this.setData({ login, said: '' }))
      .catch((answer) => this.failed(answer));
  },

  failed(answer) {
    this.setData({ said: SAID[answer.error] || '暂时无法登录，请再扫一次。Signing in does not work now: scan the code again.' });
  },
});
