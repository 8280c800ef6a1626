"""Client connections of the runner itself: thousands of them, each used once or never, and their cost to the server."""

import os
import re
import socket
import time

import machine
import processes
from processes import Failure

PER_ADDRESS = 9000  # connect() is slow beyond 10,000 connections from one source address to one port
TIME_LIMIT = 30     # seconds for one step
PRIMED, PRIMED_EXCHANGES = 200, 50  # connections before a measurement, and exchanges on each
SETTLE = 2.5        # seconds until the kernel has freed memory again: each worker trims its memory once a second


def connect(port, index, rcvbuf=None):
    """The connection number index; PER_ADDRESS connections share a source address."""
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
    """Send one request on each connection and receive its answer."""
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


def memory_bytes(pid, kind="Rss"):
    """Resident memory of a process; kind: a line of smaps_rollup."""
    found = re.search(rf"^{kind}:\s+(\d+) kB", machine.read(f"/proc/{pid}/smaps_rollup", ""), re.M)
    if not found:
        raise Failure("the server's memory cannot be read")
    return int(found.group(1)) * 1024


def family_bytes(pid):
    return sum(map(memory_bytes, processes.family(pid)))


def family_descriptors(pid):
    return sum(len(os.listdir(f"/proc/{each}/fd")) for each in processes.family(pid))


def settled_bytes(running):
    """Resident memory of a server and its processes, once garbage is collected and freed memory has gone back to the kernel."""
    running.collect()
    time.sleep(SETTLE)
    return family_bytes(running.pid)


def prime(running, request, answer):
    """Have exchanges before the measurement: what a runtime loads or compiles for its first clients is not the cost of a connection."""
    clients = []
    try:
        for index in range(PRIMED):
            clients.append(connect(running.port, index))
        for _ in range(PRIMED_EXCHANGES):
            exchange_all(clients, request, answer)
        most = family_descriptors(running.pid)
    finally:
        for client in clients:
            client.close()
    wait_until(lambda: family_descriptors(running.pid) <= most - PRIMED, "the first connections closed")


def memory_per_connection(running, count, request, answer, primed=False):
    """Stop the server after measuring: bytes per connection that never spoke, and bytes after one exchange on each; of all its processes."""
    clients = []
    try:
        if primed:
            prime(running, request, answer)
        before, descriptors = settled_bytes(running) if primed else family_bytes(running.pid), family_descriptors(running.pid)
        for index in range(count):
            clients.append(connect(running.port, index))
        wait_until(lambda: family_descriptors(running.pid) >= descriptors + count, "all connections accepted")
        silent = settled_bytes(running)
        exchange_all(clients, request, answer)
        spoken = settled_bytes(running)
        running.check()
    finally:
        running.stop()  # before the clients close: killing the server is faster than closing one by one
        for client in clients:
            client.close()
    return (silent - before) / count, (spoken - before) / count
