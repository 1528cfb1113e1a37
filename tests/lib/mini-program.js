// A phone with the mini program of examples/miniprogram: its page's own file, with a `wx` that asks the stand-in and the
// server over HTTP.

import { readFile } from 'node:fs/promises';
import vm from 'node:vm';

import { PROGRAM } from './wechat.js';

const FILE = new URL('../../examples/miniprogram/pages/login/login.js', import.meta.url);

/** Opens the page that a code leads to, for somebody: the page, with `data` as it is shown. */
export async function openProgram(wechat, server, person, { scene }) {
  const source = (await readFile(FILE, 'utf8')).replace('https://login.example.com', `http://${server.public.address}`);
  const wx = {
    login: ({ success, fail }) => wechat.order('codes', { appid: PROGRAM, person }).then(success, fail),
    request: ({ url, method, data, header, success, fail }) => fetch(url, {
      method, headers: { ...header, 'User-Agent': 'MicroMessenger MiniProgram' }, body: JSON.stringify(data),
    }).then(async (response) => success({ statusCode: response.status, data: await response.json() })).catch(fail),
  };
  let page;
  const Page = (definition) => {
    page = { ...definition, setData(change) { Object.assign(this.data, change); } };
  };
  vm.runInNewContext(source, { wx, Page, decodeURIComponent });
  page.onLoad({ scene: encodeURIComponent(scene) });
  return page;
}
