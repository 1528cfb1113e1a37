// The <script> file: makes the element known, with the server it came from.

import { defineDoorbellLogin, setDefaultServer } from './element.js';

const { currentScript } = document;
if (currentScript instanceof HTMLScriptElement && currentScript.src) {
  setDefaultServer(new URL('.', currentScript.src).href);
}
defineDoorbellLogin();
