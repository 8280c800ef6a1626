"""Measurements that are no series of pairs of runs with a baseline: latencies that xchgd counts itself, memory, shares."""

from dataclasses import dataclass
from typing import Callable

import memory
import latency_tails


@dataclass
class SingleMeasurement:
    name: str
    title: str
    measure: Callable  # of a Bench: ({figure: values}, a note)
    seconds: Callable  # of a Plan: how long it takes, about
    quick: bool = False


ALL = [
    SingleMeasurement("handoff", "hand-off, idle, acceptor and worker on one core: accept4's return to the first instruction of the handler",
                      latency_tails.handoff_idle,
          lambda plan: plan.repeats * (plan.long_ms / 1000 + 0.5), quick=True),
    SingleMeasurement("handoff-busy", "the same beside 16 connections whose echo keeps one of two workers at work, a core each, loaders on both cores",
          latency_tails.handoff_busy, lambda plan: plan.repeats * (plan.long_ms / 1000 + 3)),
    SingleMeasurement("unfair", "1,000 connections that ping beside one that sends without pause", latency_tails.unfairness,
          lambda plan: 2 * plan.pairs * (plan.long_ms / 1000 + 1)),
    SingleMeasurement("idle", "memory of an idle connection", memory.idle, lambda plan: 6 + plan.idle / 1000),
    SingleMeasurement("gone", "memory kept of connections that have gone", memory.kept, lambda plan: 3 + plan.gone / 1000),
    SingleMeasurement("shares", f"{memory.PROCESSES} xchgd on one address, XCHG_REUSEPORT=on", memory.shares, lambda plan: plan.long_ms / 1000 + 3),
]
BY_NAME = {each.name: each for each in ALL}
