// doorbell.v1 on a WebSocket.

import { receive } from './envelope.js';
import { lost, type OpenTransport } from './transport.js';

const SUBPROTOCOL = 'doorbell.v1';

export const openWebSocket: OpenTransport = ({ endpoint, env, token, resume }, events) => {
  const socket = new env.WebSocket!(endpoint.websocket, SUBPROTOCOL);
  const send = (value: object): boolean => {
    if (socket.readyState !== 1) return false;
    socket.send(JSON.stringify(value));
    return true;
  };
  socket.onopen = () => {
    events.heard();
    send({ type: 'hello', token, resume });
  };
  socket.onmessage = ({ data }) => {
    events.heard();
    if (typeof data === 'string') receive(data, events);
  };
  socket.onclose = ({ code, reason }) => {
    events.ended({ code, reason, spoken: code === 1008 || code >= 3000 });
  };
  // Whatever it was, `onclose` follows and says as much as a browser tells.
  socket.onerror = () => {};
  return {
    ack: (seq) => send({ type: 'ack', seq }),
    ping: () => send({ type: 'ping' }),
    refresh: (renewed) => send({ type: 'hello', token: renewed }),
    close() {
      // A socket that does not answer would keep its handlers for as long as the closing handshake waits.
      socket.onopen = socket.onmessage = socket.onclose = null;
      try {
        socket.close(1000);
      } catch (error) {
        events.ended(lost(String(error)));
      }
    },
  };
};
