"""A series that is being measured: its rows, their pairs of runs, and the report of them, which can be read back."""

import load
import servers
import stats

FAILURES_MAX = 3  # consecutive failures after which a row is given up
AGAIN = "A/A"     # the name of the row that compares the baseline with itself
ON_TIME = 0.98    # an open loop has kept its rate if this part of it was reached


class Row:
    def __init__(self, series, server):
        self.series, self.server = series, server
        self.pairs, self.rounds, self.failures, self.failed_in_a_row, self.attempts = [], [], [], 0, 0
        self.traffic = self.rate = self.syscalls = None
        self.prepared = False

    @property
    def given_up(self):
        return self.failed_in_a_row >= FAILURES_MAX

    def wants(self, goal):
        """Has the row fewer pairs than its goal, and may it try again?"""
        return not self.given_up and len(self.pairs) < goal and self.attempts < goal + 2 * FAILURES_MAX

    def fail(self, problem, times=1):
        self.failed_in_a_row += times
        if str(problem) not in self.failures:
            self.failures.append(str(problem))

    def add(self, number, peer, base):
        self.failed_in_a_row = 0
        self.pairs.append((peer, base))
        self.rounds.append(number)

    def late_runs(self):
        """Runs of an open loop, of both servers, that did not keep the rate."""
        return sum(each["rate"] < ON_TIME * self.rate for pair in self.pairs for each in pair) if self.rate else 0

    def report(self, name=None):
        return {
            "server": name or self.server.name, "about": self.server.about, "pairs": len(self.pairs), "failures": self.failures,
            "given_up": self.given_up, "client_bound": sum(peer["client_bound"] for peer, _ in self.pairs),
            "target_rate": self.rate, "late_runs": self.late_runs(), "syscalls": self.syscalls,
            "values": {f: stats.median([peer[f] for peer, _ in self.pairs]) for f in load.FIGURES},
            "baseline_values": {f: stats.median([base[f] for _, base in self.pairs]) for f in load.FIGURES},
            "ratios": {f: stats.ratios(self.pairs, f) for f in load.FIGURES},
            "intervals": {f: stats.spread([peer[f] for peer, _ in self.pairs]) for f in load.FIGURES},
            "server_busy": stats.median([peer["server_busy"] for peer, _ in self.pairs]),
            "client_busy": stats.median([peer["client_busy"] for peer, _ in self.pairs]),
            "runs": [{"round": number, "peer": peer, "baseline": base} for number, (peer, base) in zip(self.rounds, self.pairs)],
        }

    def read(self, report):
        """Take over the pairs of an earlier run. What failed then is tried again."""
        for run in report["runs"]:
            self.add(run["round"], run["peer"], run["baseline"])
        self.attempts = len(self.pairs)
        self.rate, self.syscalls = report["target_rate"], report["syscalls"]


class Work:
    def __init__(self, series):
        self.series = series
        base = servers.BY_NAME[series.baseline]
        self.floor = Row(series, base)  # for its system calls
        self.again = Row(series, base)
        self.rows = []       # of this run
        self.kept = []       # only of earlier runs
        self.rounds = 0      # rounds so far: in each, every row that wants it gets a pair
        self.visited = False

    def row(self, name):
        """The row of a server, of this run or of an earlier one; the baseline's is the A/A row."""
        found = [row for row in [*self.rows, *self.kept] if row.server.name == name]
        return found[0] if found else self.again if name == self.series.baseline else None

    @property
    def measured(self):
        return any(row.pairs or row.failures for row in [*self.rows, *self.kept])

    def report(self, window):
        series, order = self.series, {name: i for i, name in enumerate(self.series.rows)}
        rows = sorted([*self.rows, *self.kept], key=lambda row: order.get(row.server.name, len(order)))
        own_bytes = series.exchange == "answer" and series.answer is None  # then the baseline sends each row's bytes
        shared = series.half_rate_of is None and not own_bytes
        bases = [base for row in [*rows, self.again] for _, base in row.pairs] + [peer for peer, _ in self.again.pairs]
        return {
            "name": series.name, "title": series.title, "exchange": series.exchange, "connections": series.connections,
            "pipeline": series.pipeline, "pinned": series.pinned, "overload": series.overload, "open_loop": series.half_rate_of is not None,
            "window_s": window, "baseline": series.baseline, "baseline_syscalls": self.floor.syscalls,
            "baseline_values": {f: stats.median([base[f] for base in bases]) for f in load.FIGURES} if shared else None,
            "baseline_intervals": {f: stats.spread([base[f] for base in bases]) for f in load.FIGURES} if shared else None,
            "again": self.again.report(AGAIN) if self.again.pairs or self.again.failures else None,
            "rows": [row.report() for row in rows],
        }

    def read(self, report):
        """Take over an earlier run of the series; its rows that are not of this run are kept."""
        own = {row.server.name: row for row in self.rows}
        for each in report["rows"]:
            if each["server"] in own or each["server"] in servers.BY_NAME:
                row = own.get(each["server"]) or Row(self.series, servers.BY_NAME[each["server"]])
                row.read(each)
                self.kept += [] if each["server"] in own else [row]
        self.floor.syscalls = report["baseline_syscalls"]
        if report["again"]:
            self.again.read(report["again"])
        self.rounds = 1 + max([run["round"] for row in [*report["rows"], report["again"] or {"runs": []}] for run in row["runs"]], default=-1)
