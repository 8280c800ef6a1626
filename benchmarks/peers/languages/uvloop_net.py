"""uvloop: asyncio protocols on uvloop, N processes with a listener each (SO_REUSEPORT).

Started as `uvloop_net PORT echo|greet|hello [N]`; N is by default the number of usable CPUs. Protocols
are faster than streams, and what uvloop's users take for speed. Buffers are uvloop's own, up to 256
KiB. TCP_NODELAY: on, the default of uvloop. Backlog: 4096. A client that does not read is not read.
"""

import asyncio
import os
import socket
import sys

import uvloop

BACKLOG = 4096
GREETING = b"Message from server\0"


class Echo(asyncio.Protocol):
    """Send every byte back. The transport closes after the client's end, when all bytes have been written."""

    __slots__ = ("transport",)

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class Greet(asyncio.Protocol):
    """Send the greeting and receive one message up to a 0 byte."""

    __slots__ = ("transport",)

    def connection_made(self, transport):
        self.transport = transport
        transport.write(GREETING)

    def data_received(self, data):
        if 0 in data:
            self.transport.close()


class Hello(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(GREETING)
        transport.close()


EXCHANGES = {"echo": Echo, "greet": Greet, "hello": Hello}


def listen(port):
    """A listening socket that shares its port with others."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(BACKLOG)
    return listener


async def serve(listener, exchange):
    server = await asyncio.get_running_loop().create_server(exchange, sock=listener, backlog=BACKLOG)
    await server.serve_forever()


def usage():
    print("usage: uvloop_net PORT echo|greet|hello [N]", file=sys.stderr)
    sys.exit(64)


def main():
    if len(sys.argv) not in (3, 4) or sys.argv[2] not in EXCHANGES:
        usage()
    try:
        port, count = int(sys.argv[1]), int(sys.argv[3]) if len(sys.argv) == 4 else len(os.sched_getaffinity(0))
    except ValueError:
        usage()
    listeners = [listen(port)]
    port = listeners[0].getsockname()[1]
    listeners += [listen(port) for _ in range(count - 1)]
    print(f"listening 127.0.0.1:{port}", flush=True)
    own = 0
    for index in range(1, count):
        if os.fork() == 0:
            own = index
            break
    for index, listener in enumerate(listeners):
        if index != own:
            listener.close()  # only the process that serves a listener may keep it open
    uvloop.install()
    asyncio.run(serve(listeners[own], EXCHANGES[sys.argv[2]]))


if __name__ == "__main__":
    main()
