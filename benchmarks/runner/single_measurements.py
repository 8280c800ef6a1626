"""Measurements that are not pairs of runs with a baseline: latencies that xchgd itself counts, memory, shares of connections."""

from dataclasses import dataclass
from typing import Callable

import arrivals
import latency_tails
import memory
from series import EVENT_LOOPS, LANGUAGES

PEERS = ["bare", *EVENT_LOOPS, "lecture-thread"]


@dataclass
class SingleMeasurement:
    name: str
    title: str
    measure: Callable  # of a Bench: ({figure: values}, a note)
    seconds: Callable  # of a Plan: estimated duration
    quick: bool = False  # a part of bench-quick
    full: bool = False   # a part of bench
    group: str = "core"  # of series.py


ALL = [
    SingleMeasurement("handoff", "hand-off, idle, acceptor and worker on one core: accept4 to the handler's first instruction",
                      latency_tails.handoff_idle, lambda plan: plan.repeats * (plan.long_ms / 1000 + 0.5), quick=True),
    SingleMeasurement("handoff-busy", "the same while 16 echo connections keep one of two workers busy; one core for each worker",
                      latency_tails.handoff_busy, lambda plan: plan.repeats * (plan.long_ms / 1000 + 3)),
    SingleMeasurement("unfair", "1,000 pinging connections next to one connection that sends without pause", latency_tails.unfairness,
                      lambda plan: 2 * plan.pairs * (plan.long_ms / 1000 + 1)),
    SingleMeasurement("arrivals", f"the longest accept4 while {arrivals.CLIENTS:,} clients arrive at a fresh server", arrivals.longest_accept,
                      lambda plan: 4 * plan.repeats),
    SingleMeasurement("idle", "memory of an idle connection", memory.idle, lambda plan: 6 + plan.idle / 1000),
    SingleMeasurement("gone", "memory that remains allocated after connections have closed", memory.kept, lambda plan: 3 + plan.gone / 1000),
    SingleMeasurement("shares", f"{memory.PROCESSES} xchgd processes on one address, XCHG_REUSEPORT=on", memory.shares,
                      lambda plan: plan.long_ms / 1000 + 3),
    SingleMeasurement("peers-idle", "memory of an idle connection: bytes, of xchgd and its peers", lambda bench: memory.idle_beside(bench, PEERS),
                      lambda plan: (len(PEERS) + 1) * (8 + plan.idle / 1000), full=True),
    SingleMeasurement("languages-idle", "memory of an idle connection: bytes, of xchgd and of the servers in other languages",
                      lambda bench: memory.idle_beside(bench, LANGUAGES), lambda plan: (len(LANGUAGES) + 1) * (8 + plan.idle / 1000), group="languages"),
]
BY_NAME = {each.name: each for each in ALL}
