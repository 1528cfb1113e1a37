// Long-poll: for where nothing else gets through.

import { subject } from '../token.js';
import type { Position } from '../types.js';
import { bye, message, parse, type Fields } from './envelope.js';
import { acks, refusal, Requests } from './http.js';
import { lost, type OpenTransport } from './transport.js';

const WAIT_SECONDS = 25;
/** How long to wait for listeners before asking again. Asking from `next` would acknowledge what they still work on. */
const LISTENERS_MS = 2_000;

export const openLongPoll: OpenTransport = (opening, events) => {
  const requests = new Requests(opening, opening.token);
  const say = acks(requests);
  let behind = false;
  const poll = async (): Promise<void> => {
    let since = opening.resume;
    // The first answer comes at once: it says that this way works.
    for (let wait = 0; ; wait = WAIT_SECONDS) {
      const from = since ? `since=${encodeURIComponent(since.epoch)}:${since.seq}&` : '';
      const response = await requests.send(`/v1/poll?${from}wait=${wait}`);
      if (!response.ok) return events.ended(refusal(response));
      const answer = parse(await response.text());
      const next = position(answer?.next);
      if (!answer || !next) return events.ended(lost('not a poll answer'));
      events.heard();
      const messages = (Array.isArray(answer.messages) ? answer.messages : []).map(message);
      const recovered = answer.recovered !== false;
      if (wait === 0 || !recovered) {
        const first = messages.find(({ seq }) => seq !== undefined)?.seq;
        events.welcome({
          uid: requests.token === undefined ? null : subject(requests.token),
          connection: null,
          epoch: next.epoch,
          seq: recovered && since ? since.seq : first === undefined ? next.seq : first - 1,
          recovered,
          ping_interval: WAIT_SECONDS,
        });
      }
      messages.forEach(events.message);
      if (answer.bye) return events.bye(bye(answer.bye as Fields));
      behind = !(await opening.settled(LISTENERS_MS));
      since = behind ? (opening.handled() ?? next) : next;
    }
  };
  poll().catch((error: unknown) => events.ended(lost(String(error))));
  return {
    // The next poll acknowledges; only what is handled while one waits has to be said.
    ack: (seq) => {
      if (behind) say(seq);
    },
    ping: () => false,
    refresh(renewed) {
      requests.token = renewed;
      return true;
    },
    close: () => requests.abort.abort(),
  };
};

function position(text: unknown): Position | undefined {
  const [, epoch, seq] = /^(.*):(\d+)$/.exec(String(text)) ?? [];
  return epoch === undefined ? undefined : { epoch, seq: Number(seq) };
}
