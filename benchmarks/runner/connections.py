"""Clients of the runner's own: many connections, each of which speaks once or never, and what they cost the server."""

import re
import socket
import time

import machine
from servers import Failure

PER_ADDRESS = 9000  # connect() is slow beyond 10,000 connections from one source address to one port
TIME_LIMIT = 30     # seconds for what takes one


def connect(port, index, rcvbuf=None):
    """A connection, from the source address that the indexth one has."""
    client = socket.socket()
    client.settimeout(TIME_LIMIT)
    if rcvbuf is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    client.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
    client.bind((f"127.0.1.{index // PER_ADDRESS + 1}", 0))
    client.connect(("127.0.0.1", port))
    return client


def receive(client, size):
    data = b""
    while len(data) < size:
        chunk = client.recv(size - len(data))
        if not chunk:
            raise Failure("the server closed a connection")
        data += chunk
    return data


def exchange_all(clients, request, answer, batch=500):
    """One request on each connection, and its answer."""
    for start in range(0, len(clients), batch):
        for client in clients[start:start + batch]:
            client.sendall(request)
        for client in clients[start:start + batch]:
            if receive(client, len(answer)) != answer:
                raise Failure("a wrong answer")


def wait_until(condition, what):
    end = time.monotonic() + TIME_LIMIT
    while not condition():
        if time.monotonic() > end:
            raise Failure(f"not within {TIME_LIMIT} s: {what}")
        time.sleep(0.01)


def resident_bytes(pid):
    found = re.search(r"^Rss:\s+(\d+) kB", machine.read(f"/proc/{pid}/smaps_rollup", ""), re.M)
    if not found:
        raise Failure("the server's memory cannot be read")
    return int(found.group(1)) * 1024
