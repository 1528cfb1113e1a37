// What the element says, in English and Chinese.

const EN = {
  title: 'Scan to sign in',
  qr: 'QR code for signing in: scan it with your phone',
  starting: 'Getting a code…',
  pending: 'Scan the code with your phone.',
  scanned: 'Scanned. Confirm on your phone.',
  scannedBy: 'Scanned by {name}. Confirm on your phone.',
  number: 'Enter this number on your phone',
  asks: 'Confirmed. Enter the number your phone shows.',
  digits: 'Number on your phone',
  continue: 'Continue',
  wrong: 'That is not the number. Tries left: {left}.',
  malformed: 'Enter the six digits your phone shows.',
  approved: 'Confirmed. Signing you in…',
  denied: 'The sign-in was refused on the phone.',
  expired: 'The code has expired.',
  cancelled: 'The sign-in was cancelled.',
  error: 'Signing in does not work right now.',
  offline: 'You are offline. This goes on once you are back.',
  reconnecting: 'Reconnecting…',
  open: 'Open on this device',
  renew: 'New code',
  retry: 'Try again',
  cannot: 'Cannot scan?',
  instead: 'On another device, open {uri} and enter this code:',
};

export type Texts = typeof EN;

const ZH: Texts = {
  title: '扫码登录',
  qr: '登录二维码，请用手机扫描',
  starting: '正在获取二维码…',
  pending: '请用手机扫描二维码。',
  scanned: '已扫描，请在手机上确认。',
  scannedBy: '{name} 已扫描，请在手机上确认。',
  number: '请在手机上输入这个数字',
  asks: '已确认，请输入手机上显示的数字。',
  digits: '手机上的数字',
  continue: '继续',
  wrong: '数字不对，还可以试 {left} 次。',
  malformed: '请输入手机上显示的六位数字。',
  approved: '已确认，正在登录…',
  denied: '手机上拒绝了这次登录。',
  expired: '二维码已过期。',
  cancelled: '登录已取消。',
  error: '暂时无法登录。',
  offline: '当前没有网络，恢复后会自动继续。',
  reconnecting: '正在重新连接…',
  open: '在本机打开',
  renew: '换一个二维码',
  retry: '重试',
  cannot: '无法扫码？',
  instead: '在另一台设备上打开 {uri}，输入代码：',
};

/** The texts in a language; whatever is not Chinese reads English. */
export function texts(language: string): Texts {
  return /^zh\b/i.test(language) ? ZH : EN;
}
