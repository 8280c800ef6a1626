"""Memory of xchgd per idle connection and after connections have closed; the spread of connections over processes on one address."""

import os
import re
import signal
import time
from types import SimpleNamespace

import load
import machine
from connections import connect, exchange_all, memory_bytes, memory_per_connection, wait_until
from processes import Failure
from servers import QUICK_STOP, Absent, free_port, start_named, start_xchg

MESSAGE = b"x" * 64
GONE_SECONDS = 2  # after which the memory must have been freed
PROCESSES = 4


def idle(bench):
    """Bytes per connection that never spoke, and per connection that spoke once."""
    count = machine.affordable(bench.plan.idle)
    silent, spoken = memory_per_connection(start_xchg(bench.options.build, XCHG_EXCHANGE="echo"), count, MESSAGE, MESSAGE)
    return {"silent": [silent], "spoken": [spoken]}, f"{count:,} connections"


def idle_beside(bench, names):
    """The same for xchgd and these servers, with all of their processes."""
    count, figures, absent = machine.affordable(bench.plan.idle), {}, []
    for name in ["xchgd", *names]:
        try:
            running = start_named(name, bench.options.build, "echo")
        except Absent as problem:
            absent.append(f"skipped: {problem}")
            continue
        silent, spoken = memory_per_connection(running, count, MESSAGE, MESSAGE, primed=True)
        figures |= {f"{name}: silent": [silent], f"{name}: spoken": [spoken]}
    return figures, "; ".join([f"{count:,} connections", *absent])


def kept(bench):
    """KiB more than after the start, once all connections have spoken and closed."""
    count = machine.affordable(bench.plan.gone)
    running = start_xchg(bench.options.build, XCHG_EXCHANGE="echo")
    folder, clients = f"/proc/{running.pid}/fd", []
    try:
        before, private, descriptors = memory_bytes(running.pid), memory_bytes(running.pid, "Anonymous"), len(os.listdir(folder))
        for index in range(count):
            clients.append(connect(running.port, index))
        exchange_all(clients, MESSAGE, MESSAGE)
        most = memory_bytes(running.pid)
        while clients:
            clients.pop().close()
        wait_until(lambda: len(os.listdir(folder)) <= descriptors, "all connections closed")
        time.sleep(GONE_SECONDS)
        after, private = memory_bytes(running.pid), memory_bytes(running.pid, "Anonymous") - private
        running.check()
    finally:
        running.stop()
        for client in clients:
            client.close()
    return ({"kib": [(after - before) / 1024]},
            f"{count:,} connections; {before / 1024:,.0f} KiB at the start, {most / 1024:,.0f} with them; {private / 1024:,.0f} KiB of it anonymous")


# ---- several processes on one address ------------------------------------------------------------

def start_several(build, count):
    """Start xchgd processes that share one address; stop_all() must be called."""
    started, listen = [], f"127.0.0.1:{free_port()}"
    try:
        for _ in range(count):
            started.append(start_xchg(build, priority=False, XCHG_EXCHANGE="echo", XCHG_LISTEN=listen, XCHG_REUSEPORT="on",
                                      XCHG_IDLE_TIMEOUT="0", **QUICK_STOP))
    except BaseException:
        stop_all(started)
        raise
    return started


def stop_all(started):
    for each in started:
        each.stop()


def held_by(started):
    """The number of open connections of each process, from its log line on SIGUSR1."""
    for each in started:
        each.process.send_signal(signal.SIGUSR1)
    return [int(re.search(r" open=(\d+)", each.hear("msg=stats")).group(1)) for each in started]


def shares(bench):
    """The share of each process in the connections of one load generator."""
    build, connections, seconds = bench.options.build, 2000, bench.plan.long_ms / 1000 + 1
    started, held = start_several(build, PROCESSES), [0]

    def look(_):
        if sum(held) < connections:
            held[:] = held_by(started)
    try:
        everyone = SimpleNamespace(pid=None, check=lambda: [each.check() for each in started])
        line = load.xchg_bench(build, "echo", connections, seconds, 0, started[0].port)
        report, _ = load.run_report(line, None, seconds + 20, everyone, look)
    finally:
        stop_all(started)
    if sum(held) != connections:
        raise Failure(f"{sum(held)} of {connections} connections are held")
    return ({"least_share": [min(held) * PROCESSES / connections], "most_share": [max(held) * PROCESSES / connections]},
            f"{' + '.join(map(str, held))} connections; {report['rate']:,.0f} exchanges/s")
