// What the demonstration's pages share: the words around them, their language, and what a browser keeps for them.
'use strict';

const byId = (id) => document.getElementById(id);

/** Storage, which a private window may forbid: then nothing is kept. */
const Kept = {
  get(where, key) {
    try { return window[where].getItem(key); } catch { return null; }
  },
  set(where, key, value) {
    try { window[where].setItem(key, value); } catch { /* see above */ }
  },
  forget(where, key) {
    try { window[where].removeItem(key); } catch { /* see above */ }
  },
};

/** The language of the page: what the address, an earlier visit or the browser says. */
const Language = (() => {
  const KEY = 'doorbell-demo-language';
  const FRAME = {
    en: { title: 'Doorbell demo', otherLanguage: '中文', pages: 'Pages', signInPage: 'Sign in', pushPage: 'Push' },
    zh: { title: 'Doorbell 演示', otherLanguage: 'English', pages: '页面', signInPage: '扫码登录', pushPage: '推送' },
  };
  const asked = new URLSearchParams(location.search).get('lang') ?? Kept.get('localStorage', KEY) ?? navigator.language;
  let current = asked.toLowerCase().startsWith('zh') ? 'zh' : 'en';

  /** Shows the page in the language it is in now, then calls `shown`; the button changes to the other one. */
  function start(texts, shown) {
    const apply = () => {
      const words = { ...FRAME[current], ...texts[current] };
      document.documentElement.lang = current === 'zh' ? 'zh-CN' : 'en';
      document.title = words.title;
      for (const element of document.querySelectorAll('[data-text]')) element.textContent = words[element.dataset.text];
      for (const element of document.querySelectorAll('[data-label]')) element.ariaLabel = words[element.dataset.label];
      byId('language').textContent = words.otherLanguage;
      byId('language').lang = current === 'zh' ? 'en' : 'zh-CN';
      shown();
    };
    byId('language').addEventListener('click', () => {
      current = current === 'zh' ? 'en' : 'zh';
      Kept.set('localStorage', KEY, current);
      apply();
    });
    apply();
  }

  return { start, get current() { return current; } };
})();
