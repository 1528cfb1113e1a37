// The ports of the servers on Node.js and of the adapters: lines to a user each on one, POSTs to everyone on the other.

import http from 'node:http';
import net from 'node:net';

/**
 * Each line goes to `push(line, answer)`, each body to `toAll(body, answer)`; both call `answer` with whether it went. The
 * answers of lines under way at once may change places: `doorbell bench` counts them.
 */
export function listen(text, api, push, toAll) {
  net.createServer({ noDelay: true }, (socket) => {
    let rest = '';
    let answers = '';
    let reading = false;
    const flush = () => {
      if (answers) socket.write(answers);
      answers = '';
    };
    const answer = (went) => {
      answers += went ? 'ok\n' : 'fail\n';
      if (!reading) flush();
    };
    socket.setEncoding('utf8');
    socket.on('error', () => {});
    socket.on('data', (data) => {
      const lines = (rest + data).split('\n');
      rest = lines.pop();
      reading = true;
      for (const line of lines) push(line, answer);
      reading = false;
      flush();
    });
  }).listen(text, '127.0.0.1');

  http.createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8');
    request.on('data', (data) => { body += data; });
    request.on('end', () => toAll(body, (went) => response.writeHead(went ? 200 : 500).end('{}')));
  }).listen(api, '127.0.0.1');
}
