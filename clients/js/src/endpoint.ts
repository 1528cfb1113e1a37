// The server's addresses, made from the one the application gave.

export class Endpoint {
  /** Normalised: `http(s)://host/prefix`, without a slash at the end. */
  readonly base: string;

  constructor(url: string, baseUrl: string | undefined) {
    const parsed = new URL(url, baseUrl);
    parsed.protocol = parsed.protocol.replace(/^ws/, 'http');
    parsed.search = parsed.hash = '';
    this.base = parsed.href.replace(/\/+$/, '').replace(/\/ws$/, '');
  }

  get websocket(): string {
    return `${this.base.replace(/^http/, 'ws')}/ws`;
  }

  at(path: string): string {
    return this.base + path;
  }
}
