// Opens a page and a WebSocket in Chromium, and prints what the browser itself says of them, as JSON.
//
// node chromium.js PUPPETEER CHROMIUM PROFILE URL HOSTS: the module, the browser, a new directory, an https URL whose host
// echoes to WebSockets on /ws, and from how many hosts the page fetches something at once: the same server by other
// names, for each of which the browser opens a connection.
'use strict';

const [puppeteer, executablePath, userDataDir, url, hosts] = process.argv.slice(2);
const { port } = new URL(url);
const others = Array.from({ length: Number(hosts) }, (_, i) => `https://host-${i}.test:${port}/`);

const flags = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--ignore-certificate-errors',
  '--host-resolver-rules=MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost',
];

// Runs in the page: sends each message, and gives back whether the same one came.
async function converse(target) {
  const socket = new WebSocket(target);
  socket.binaryType = 'arraybuffer';
  const event = (name) => new Promise((resolve, reject) => {
    socket.addEventListener(name, resolve, { once: true });
    socket.addEventListener('error', () => reject(new Error(`no ${name} from ${target}`)), { once: true });
  });
  await event('open');
  const mebibyte = new Uint8Array(1 << 20).map((_, i) => (i * 31) >> 3);
  const same = {};
  for (const [name, message] of [['text', 'h\u00e4ndfast'], ['binary', mebibyte.slice(0, 300)], ['mebibyte', mebibyte]]) {
    const answer = event('message');
    socket.send(message);
    const { data } = await answer;
    same[name] = typeof message === 'string'
      ? data === message
      : data.byteLength === message.length && new Uint8Array(data).every((byte, i) => byte === message[i]);
  }
  const closed = event('close');
  socket.close(1000, 'done');
  const { code, reason, wasClean } = await closed;
  return { ...same, extensions: socket.extensions, close: { code, reason, wasClean } };
}

// Runs in the page: how many of these answered; no page of another host may know more.
async function fetchAll(urls) {
  const fetched = await Promise.all(urls.map((target) => fetch(target, { mode: 'no-cors' })));
  return fetched.filter(({ type }) => type === 'opaque').length;
}

async function main() {
  const browser = await require(puppeteer).launch({ executablePath, userDataDir, args: flags });
  try {
    const page = await browser.newPage();
    // The page forbids itself everything; what is tested here is the server.
    await page.setBypassCSP(true);
    const devtools = await page.createCDPSession();
    await devtools.send('Network.enable');
    const opened = new Promise((resolve) => {
      devtools.once('Network.webSocketHandshakeResponseReceived', ({ response }) => resolve(response.status));
    });
    const groups = {};
    const answered = new Promise((resolve) => {
      devtools.on('Network.responseReceived', ({ response }) => {
        groups[new URL(response.url).hostname] = response.securityDetails?.keyExchangeGroup;
        if (Object.keys(groups).length > others.length) resolve();
      });
    });
    await page.goto(url, { waitUntil: 'load' });
    const protocol = await page.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol);
    const socket = await page.evaluate(converse, `${url.replace(/^https/, 'wss')}ws`);
    const fetched = await page.evaluate(fetchAll, others);
    await answered;
    const status = await Promise.race([opened, new Promise((resolve) => setTimeout(resolve, 5000, null))]);
    console.log(JSON.stringify({ protocol, socket, status, fetched, groups }));
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
