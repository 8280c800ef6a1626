"""The longest accept4 while thousands of clients arrive at a fresh server, with and without the table made at the start."""

import os
import re

import machine
from connections import connect
from processes import Failure
from servers import start_xchg

NS_PER_US = 1000
CLIENTS = 5000


def longest_us(bench, count, **settings):
    """One fresh server and ${count} clients that connect one after the other and stay."""
    probe = os.path.join("peers", "accept_probe")
    if not os.path.exists(os.path.join(bench.options.build, probe)):
        raise Failure(f"{probe} is not built")
    running, clients = start_xchg(bench.options.build, probe, XCHG_EXCHANGE="echo", XCHG_DRAIN_TIMEOUT="0", **settings), []
    try:
        for index in range(count):
            clients.append(connect(running.port, index))
        said = running.finish()[0]
    finally:
        running.stop()
        for client in clients:
            client.close()
    found = re.search(r"^accepts=(\d+) longest_accept_ns=(\d+)$", said, re.MULTILINE)
    if found is None or int(found.group(1)) != count:
        raise Failure(f"accept_probe did not count {count} accepts: {said[-200:]!r}")
    return int(found.group(2)) / NS_PER_US


def longest_accept(bench):
    """The table made at the start, alternating with one that grows while the clients arrive."""
    count, figures = machine.affordable(CLIENTS), {"longest_us": [], "growing_longest_us": []}
    for _ in range(bench.plan.repeats):
        figures["longest_us"].append(longest_us(bench, count))
        figures["growing_longest_us"].append(longest_us(bench, count, ACCEPT_PROBE_TABLE="off"))
    return figures, f"{count:,} clients; growing: the table of descriptors grows while they arrive"
