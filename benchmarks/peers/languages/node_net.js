// node_net: the module net under cluster, with N processes.
//
// Started as `node_net PORT echo|greet|hello|http [N]`; N is by default the number of usable CPUs.
// With one process there is no cluster. Node's default policy hands connections over in turn; with
// NODE_CLUSTER_SCHED_POLICY=none each process accepts for itself. Buffers are Node's own, up to 64 KiB.
// TCP_NODELAY: off by default in net and on in http, set here by the option noDelay. Backlog: 4096.
// http is the module http with its defaults and one handler. With --expose-gc, SIGHUP collects garbage.
'use strict';

const cluster = require('node:cluster');
const http = require('node:http');
const net = require('node:net');
const os = require('node:os');

const BACKLOG = 4096;
const GREETING = Buffer.from('Message from server\0');

// Send every byte back. A client that does not read is not read. Node ends our side after the client's
// end, when all bytes have been written.
function echo(conn) {
  conn.on('data', (chunk) => {
    if (!conn.write(chunk)) {
      conn.pause();
    }
  });
  conn.on('drain', () => conn.resume());
}

// Send the greeting and receive one message up to a 0 byte. The close is at once: end() would first half-close, and
// wait for the client's end.
function greet(conn) {
  conn.write(GREETING);
  conn.on('data', (chunk) => {
    if (chunk.includes(0)) {
      conn.destroy();
    }
  });
}

function hello(conn) {
  conn.end(GREETING);
}

const exchanges = { echo, greet, hello };

function answer(request, response) {
  response.setHeader('Content-Type', 'text/plain');
  response.end('ok\n');
}

function makeServer(exchange) {
  if (exchange === 'http') {
    return http.createServer(answer);
  }
  const serve = exchanges[exchange];
  return net.createServer({ noDelay: true }, (conn) => {
    conn.on('error', () => conn.destroy());
    serve(conn);
  });
}

function announce(port) {
  process.stdout.write(`listening 127.0.0.1:${port}\n`);
}

const [portText, exchange, countText, ...more] = process.argv.slice(2);
const port = Number(portText);
const count = countText === undefined ? os.availableParallelism() : Number(countText);
if (!Number.isInteger(port) || !Number.isInteger(count) || count < 1 || more.length > 0 ||
    !(exchange === 'http' || Object.hasOwn(exchanges, exchange))) {
  process.stderr.write('usage: node_net PORT echo|greet|hello|http [N]\n');
  process.exit(64);
}

if (globalThis.gc) {
  process.on('SIGHUP', () => globalThis.gc());
}

if (cluster.isPrimary && count > 1) {
  let ready = 0;
  cluster.on('listening', (worker, address) => {
    ready += 1;
    if (ready === count) {
      announce(address.port);
    }
  });
  cluster.on('exit', () => process.exit(1));
  for (let i = 0; i < count; i += 1) {
    cluster.fork();
  }
} else {
  const server = makeServer(exchange);
  server.listen({ port, host: '127.0.0.1', backlog: BACKLOG }, () => {
    if (cluster.isPrimary) {
      announce(server.address().port);
    }
  });
}
