"""Memory of xchgd: for an idle connection, and what it keeps of those that have gone; and how several processes share one address."""

import os
import re
import resource
import tempfile
import time
from types import SimpleNamespace

import library
import load
import machine
import processes
import scale
from connections import connect, exchange_all, resident_bytes, wait_until
from servers import Failure

MESSAGE = b"x" * 64
GONE_SECONDS = 2  # after which memory must be back
PROCESSES = 4


def raise_descriptors():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def idle(bench):
    """Bytes for a connection, of so many that never spoke, and that spoke once."""
    raise_descriptors()
    count = min(bench.plan.idle, machine.descriptors() - 1500)
    running = library.ours(SimpleNamespace(build=bench.options.build), "xchgd", XCHG_EXCHANGE="echo")
    silent, spoken = library.grown(running, count, MESSAGE, MESSAGE)
    return {"silent": [silent], "spoken": [spoken]}, f"{count:,} connections"


def anonymous_bytes(pid):
    found = re.search(r"^Anonymous:\s+(\d+) kB", machine.read(f"/proc/{pid}/smaps_rollup", ""), re.M)
    return int(found.group(1)) * 1024 if found else 0


def kept(bench):
    """KiB over the start, after so many connections have spoken and gone."""
    raise_descriptors()
    count = min(bench.plan.gone, machine.descriptors() - 1500)
    running = library.ours(SimpleNamespace(build=bench.options.build), "xchgd", XCHG_EXCHANGE="echo")
    folder, clients = f"/proc/{running.pid}/fd", []
    try:
        before, private, descriptors = resident_bytes(running.pid), anonymous_bytes(running.pid), len(os.listdir(folder))
        for index in range(count):
            clients.append(connect(running.port, index))
        exchange_all(clients, MESSAGE, MESSAGE)
        most = resident_bytes(running.pid)
        while clients:
            clients.pop().close()
        wait_until(lambda: len(os.listdir(folder)) <= descriptors, "all connections gone")
        time.sleep(GONE_SECONDS)
        after, private = resident_bytes(running.pid), anonymous_bytes(running.pid) - private
        running.check()
    finally:
        running.stop()
        for client in clients:
            client.close()
    return ({"kib": [(after - before) / 1024]},
            f"{count:,} connections; {before / 1024:,.0f} KiB at the start, {most / 1024:,.0f} with them; {private / 1024:,.0f} KiB of it anonymous")


def shares(bench):
    """Several xchgd on one address: the share of each in the connections of one harness."""
    build, connections, seconds = bench.options.build, 2000, bench.plan.long_ms / 1000 + 1
    port, started = scale.unused_port(), []
    with tempfile.TemporaryDirectory(prefix="xchg-bench-") as folder:
        try:
            for index in range(PROCESSES):
                started.append(scale.Xchgd(build, port, folder, index))
            path = os.path.join(folder, "report.json")
            line = [os.path.join(build, "xchg-bench"), "-x", "echo", "-t", "1", "-c", str(connections), "--size", "64", "-w", "0s",
                    "-d", f"{seconds:g}s", "--json", path, f"127.0.0.1:{port}"]
            harness = processes.start(line)
            try:
                held = scale.hold(started, connections, 20)
                load.wait(harness, seconds + 20, lambda: None)
            finally:
                processes.end(harness)
            report = load.json.loads(machine.read(path, "null"))
        except SystemExit as problem:  # scale.py is a program
            raise Failure(str(problem)) from None
        finally:
            for each in started:
                processes.end(each.process)
    if report is None or sum(held) != connections or report["errors"]["wrong"]:
        raise Failure(f"{sum(held)} of {connections} connections are held")
    return ({"least_share": [min(held) * PROCESSES / connections], "most_share": [max(held) * PROCESSES / connections]},
            f"{' + '.join(map(str, held))} connections; {report['rate']:,.0f} exchanges/s")


