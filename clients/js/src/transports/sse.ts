// Server-sent events, read by fetch because EventSource cannot send the token in a header.

import { EventStream } from './event-stream.js';
import { receive } from './envelope.js';
import { acks, refusal, Requests } from './http.js';
import { lost, type OpenTransport } from './transport.js';

export const openSse: OpenTransport = (opening, events) => {
  const requests = new Requests(opening, opening.token);
  const { resume } = opening;
  const listen = async (): Promise<void> => {
    const response = await requests.send('/v1/events', {
      Accept: 'text/event-stream',
      ...(resume && { 'Last-Event-ID': `${resume.epoch}:${resume.seq}` }),
    });
    if (!response.ok) return events.ended(refusal(response));
    if (!response.body || !/^text\/event-stream/i.test(response.headers.get('Content-Type') ?? '')) {
      return events.ended(lost('not an event stream'));
    }
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    const stream = new EventStream((kind, data) => receive(data, events, kind));
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return events.ended(lost('the stream ended'));
      events.heard();
      stream.push(decoder.decode(value, { stream: true }));
    }
  };
  listen().catch((error: unknown) => events.ended(lost(String(error))));
  return {
    ack: acks(requests),
    ping: () => false,
    refresh: () => false,
    close: () => requests.abort.abort(),
  };
};
