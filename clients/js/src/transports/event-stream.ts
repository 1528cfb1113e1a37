// Parses text/event-stream (WHATWG HTML, section 9.2.6), over any chunk borders.

export class EventStream {
  private _rest = '';
  private _kind = '';
  private _data: string[] = [];

  constructor(private readonly _event: (kind: string, data: string) => void) {}

  push(text: string): void {
    const all = this._rest + text;
    // A CR at the end may be half of a CRLF.
    const lines = all.split(all.endsWith('\r') ? /\r\n|\n|\r(?!$)/ : /\r\n|\n|\r/);
    this._rest = lines.pop()!;
    for (const line of lines) this._line(line);
  }

  private _line(line: string): void {
    if (line === '') {
      if (this._data.length > 0) this._event(this._kind || 'message', this._data.join('\n'));
      this._kind = '';
      this._data = [];
      return;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') this._kind = value;
    else if (field === 'data') this._data.push(value);
  }
}
