// Saves a tap, counts the seconds, looks whether the page is still true. Written for old phones: no newer syntax.
(function () {
  'use strict';
  var root = document.documentElement;
  var version = root.getAttribute('data-version');
  // Not the address: that of a form's answer takes no GET.
  var path = root.getAttribute('data-path');
  var left = document.querySelector('[data-seconds]');
  var loaded = Date.now();
  var sent = false;

  // A preview or a page loaded ahead shows itself to nobody, and must not speak for somebody.
  function seen() {
    return document.visibilityState === 'visible' && !document.prerendering;
  }

  function whenSeen(act) {
    if (seen()) return act();
    var once = function () {
      if (!seen()) return;
      document.removeEventListener('visibilitychange', once);
      document.removeEventListener('prerenderingchange', once);
      act();
    };
    document.addEventListener('visibilitychange', once);
    document.addEventListener('prerenderingchange', once);
  }

  function again() {
    if (sent) return;
    sent = true;
    location.replace(path);
  }

  document.addEventListener('submit', function (event) {
    if (sent) return event.preventDefault();
    sent = true;
    document.body.className += ' sent';
  });

  // A page that "back" brings from memory may have been answered since.
  window.addEventListener('pageshow', function (event) {
    if (event.persisted) again();
  });

  var scan = document.getElementById('scan');
  if (scan) whenSeen(function () { scan.querySelector('button').click(); });

  if (left) {
    var seconds = Number(left.getAttribute('data-seconds'));
    var count = setInterval(function () {
      // By the clock: a phone in a pocket stops its timers.
      var now = Math.max(0, Math.ceil(seconds - (Date.now() - loaded) / 1000));
      left.textContent = left.getAttribute('data-text').replace('{}', now);
      if (now > 0) return;
      clearInterval(count);
      again();
    }, 1000);
  }

  if (!version || !window.fetch) return;
  setInterval(function () {
    if (!seen() || sent || scan) return;
    fetch(path, { method: 'HEAD', credentials: 'same-origin', cache: 'no-store' }).then(function (answer) {
      var tag = answer.headers.get('ETag');
      if ((tag || '').replace(/^W\//, '') !== '"' + version + '"') again();
    }, function () {});
  }, 2000);
})();
