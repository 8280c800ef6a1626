// Other implementations of the PROXY protocol, for tests/ops/test_proxy_peers.py:
//
//   node peers.mjs encode    writes a line of JSON for each header that proxy-protocol-js builds:
//                            {name, hex, version, command, source, destination}
//   node peers.mjs decode    reads lines of hex and writes what @balena/proxy-protocol-parser and
//                            proxy-protocol-js find in each: {balena: {source, destination}, js: ...}
//
// An address is "address port", without compression of IPv6; null = none is announced.

import { createInterface } from 'node:readline';

import balena from '@balena/proxy-protocol-parser';
import js from 'proxy-protocol-js';

const { Command, TransportProtocol } = js;

const hex = (bytes) => Buffer.from(bytes).toString('hex');
const groups = (bytes) => hex(bytes).match(/.{4}/g).join(':');

// ---- encode ----

const v4 = [[192, 0, 2, 1], 12345, [198, 51, 100, 1], 7000];
const v6 = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 1, [0x20, 1, 0xd, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], 65535];
const path = (letter) => js.UnixAddress.createFrom(Array(108).fill(letter.charCodeAt(0)));

function* line(family, [source, port, destination, destinationPort]) {
  const text = new js.V1ProxyProtocol(js.INETProtocol[family], new js.Peer(source, port), new js.Peer(destination, destinationPort)).build();
  yield { name: `v1 ${family} ${source}`, hex: hex(Buffer.from(text, 'latin1')), version: 1, command: 'proxy', source: `${source} ${port}`,
          destination: `${destination} ${destinationPort}` };
}

function* binary(name, addresses, source, destination) {
  for (const [command, word] of [[Command.PROXY, 'proxy'], [Command.LOCAL, 'local']]) {
    for (const kind of ['STREAM', 'DGRAM', 'UNSPEC']) {
      const announced = word === 'proxy' && kind === 'STREAM'; // of the others xchg keeps the socket's address
      yield { name: `v2 ${name} ${word} ${kind}`, hex: hex(new js.V2ProxyProtocol(command, TransportProtocol[kind], addresses).build()), version: 2,
              command: word, source: announced ? source : null, destination: announced ? destination : null };
    }
  }
}

function* headers() {
  yield* line('TCP4', ['192.0.2.1', 12345, '198.51.100.1', 7000]);
  yield* line('TCP4', ['0.0.0.0', 0, '255.255.255.255', 65535]);
  yield* line('TCP6', ['2001:db8::1', 1, '2001:db8:102:304:506:708:90a:b0c', 65535]);
  yield* binary('TCP4', new js.IPv4ProxyAddress(js.IPv4Address.createFrom(v4[0]), v4[1], js.IPv4Address.createFrom(v4[2]), v4[3]),
                `${v4[0].join('.')} ${v4[1]}`, `${v4[2].join('.')} ${v4[3]}`);
  yield* binary('TCP6', new js.IPv6ProxyAddress(js.IPv6Address.createFrom(v6[0]), v6[1], js.IPv6Address.createFrom(v6[2]), v6[3]),
                `${groups(v6[0])} ${v6[1]}`, `${groups(v6[2])} ${v6[3]}`);
  yield* binary('UNIX', new js.UnixProxyAddress(path('A'), path('B')), 'A'.repeat(108), 'B'.repeat(108));
  yield* binary('UNSPEC', new js.UnspecProxyAddress(), null, null);
}

// ---- decode ----

function byBalena(bytes) {
  const found = balena.decode(bytes, true);
  return { source: `${found.remoteAddress} ${found.remotePort}`, destination: `${found.localAddress} ${found.localPort}` };
}

function byJs(bytes) {
  if (bytes[0] === 0x50) {
    const found = js.V1ProxyProtocol.parse(bytes.toString('latin1'));
    return { source: `${found.source.ipAddress} ${found.source.port}`, destination: `${found.destination.ipAddress} ${found.destination.port}` };
  }
  const { proxyAddress } = js.V2ProxyProtocol.parse(new Uint8Array(bytes));
  const text = ({ address }) => (address.length === 4 ? address.join('.') : groups(address));
  return { source: `${text(proxyAddress.sourceAddress)} ${proxyAddress.sourcePort}`,
           destination: `${text(proxyAddress.destinationAddress)} ${proxyAddress.destinationPort}` };
}

if (process.argv[2] === 'encode') {
  for (const header of headers()) {
    console.log(JSON.stringify(header));
  }
} else {
  for await (const text of createInterface({ input: process.stdin })) {
    const bytes = Buffer.from(text, 'hex');
    console.log(JSON.stringify({ balena: byBalena(bytes), js: byJs(bytes) }));
  }
}
