// A thousand requests with Node's own HTTP/2, fifty at a time on one connection; prints what the server said of each, a
// line each. One in ten uploads content, which the server refuses with 405 after it has read it.
//
// node h2_client.js URL CA
'use strict';

const fs = require('node:fs');
const http2 = require('node:http2');

const [url, ca] = process.argv.slice(2);
const upload = Buffer.alloc(20000, 'x');

function request(session, content) {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':path': '/', ':method': content ? 'POST' : 'GET' }, { endStream: !content });
    let status;
    let text = '';
    stream.setEncoding('utf8');
    stream.on('response', (headers) => { status = headers[':status']; });
    stream.on('data', (data) => { text += data; });
    stream.on('error', reject);
    stream.on('close', () => {
      const right = stream.rstCode === http2.constants.NGHTTP2_NO_ERROR && status === (content ? 405 : 200);
      if (right) resolve(text); else reject(new Error(`status ${status}, code ${stream.rstCode}`));
    });
    if (content) stream.end(content);
  });
}

async function main() {
  const session = http2.connect(url, { ca: fs.readFileSync(ca) });
  const broken = new Promise((_, reject) => {
    session.on('error', reject);
    session.on('goaway', (code) => reject(new Error(`GOAWAY with code ${code}`)));
  });
  let left = 1000;
  async function requests() {
    while (left-- > 0) {
      process.stdout.write(await request(session, left % 10 === 0 ? upload : undefined));
    }
  }
  await Promise.race([broken, Promise.all(Array.from({ length: 50 }, requests))]);
  await new Promise((resolve) => session.close(resolve));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
