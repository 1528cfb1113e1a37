// The language of a demo page: what the address, an earlier visit or the browser says.
'use strict';

const Language = (() => {
  const KEY = 'doorbell-demo-language';
  const remembered = () => {
    try { return localStorage.getItem(KEY); } catch { return null; }
  };
  const asked = new URLSearchParams(location.search).get('lang') ?? remembered() ?? navigator.language;
  let current = asked.toLowerCase().startsWith('zh') ? 'zh' : 'en';

  /** Shows the page in the language it is in now, then calls `shown`; the button changes to the other one. */
  function start(texts, shown) {
    const apply = () => {
      const words = texts[current];
      document.documentElement.lang = current === 'zh' ? 'zh-CN' : 'en';
      document.title = words.title;
      for (const element of document.querySelectorAll('[data-text]')) element.textContent = words[element.dataset.text];
      for (const element of document.querySelectorAll('[data-label]')) element.ariaLabel = words[element.dataset.label];
      const toggle = document.getElementById('language');
      toggle.textContent = words.otherLanguage;
      toggle.lang = current === 'zh' ? 'en' : 'zh-CN';
      shown();
    };
    document.getElementById('language').addEventListener('click', () => {
      current = current === 'zh' ? 'en' : 'zh';
      try { localStorage.setItem(KEY, current); } catch { /* private window */ }
      apply();
    });
    apply();
  }

  return { start, get current() { return current; } };
})();
