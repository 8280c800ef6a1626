"""Measurements that are no series of pairs of runs with a baseline: latencies that xchgd counts itself, memory, shares."""

from dataclasses import dataclass
from typing import Callable

import footprint
import tails


@dataclass
class Apart:
    name: str
    title: str
    measure: Callable  # of a Bench: ({figure: values}, a note)
    seconds: Callable  # of a Plan: how long it takes, about
    quick: bool = False


ALL = [
    Apart("handoff", "hand-off, idle, acceptor and worker on one core: accept4's return to the first instruction of the handler", tails.handoff_idle,
          lambda plan: plan.repeats * (plan.long_ms / 1000 + 0.5), quick=True),
    Apart("handoff-busy", "the same beside 16 connections whose echo keeps one of two workers at work, a core each, loaders on both cores",
          tails.handoff_busy, lambda plan: plan.repeats * (plan.long_ms / 1000 + 3)),
    Apart("unfair", "1,000 connections that ping beside one that sends without pause", tails.unfairness,
          lambda plan: 2 * plan.pairs * (plan.long_ms / 1000 + 1)),
    Apart("idle", "memory of an idle connection", footprint.idle, lambda plan: 6 + plan.idle / 1000),
    Apart("gone", "memory kept of connections that have gone", footprint.kept, lambda plan: 3 + plan.gone / 1000),
    Apart("shares", f"{footprint.PROCESSES} xchgd on one address, XCHG_REUSEPORT=on", footprint.shares, lambda plan: plan.long_ms / 1000 + 3),
]
BY_NAME = {each.name: each for each in ALL}
