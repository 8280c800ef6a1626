"""How many pairs, in which order, and how long.

Pairs are taken in passes over all series. A pass has a goal for the rows that a verdict needs, and a smaller one for the others. So a
short budget first gives every row a few pairs, then enough for a verdict, and the series at the beginning of the list get more than
those at its end. After the passes, rows whose verdict is open go on, up to `most` pairs. Looking at a verdict after each pair would
make a wrong one more probable, so it is looked at after LOOKS pairs only. (Simulated: where the true median lies on the target, the
verdict is wrong with a probability of 0.08 on each side.)
"""

import math

from servers import warmup_of

PASSES = [(2, 1), (5, 3), (8, 5), (8, 8)]  # pairs of (rows that a verdict needs, other rows)
LOOKS = (5, 8, 12, 16, 24, 32)
AGAIN = 4  # A/A pairs at the first visit of a series; each later visit has one


class Plan:
    def __init__(self, quick, short, pairs=None, most=None):
        self.pairs = pairs or (2 if short else 3 if quick else 8)
        self.most = max(most or (self.pairs if pairs or short else 8 if quick else 32), self.pairs)
        self.again = 1 if short else AGAIN
        self.seconds = 0.2 if short else 0.5 if quick else 0.6
        self.warmup = 0.1 if short else 0.2
        # For single_measurements.py: runs of a measurement, their length, connections.
        self.repeats = 2 if short else 3 if quick else 5
        self.long_ms = 400 if short else 1500
        self.idle = 2000 if short else 18000
        self.gone = 2000 if short else 15000

    def passes(self):
        """The goals of the passes: pairs of (rows that a verdict needs, other rows)."""
        goals = [(min(judged, self.pairs), min(others, self.pairs)) for judged, others in PASSES] + [(self.pairs, self.pairs)]
        return list(dict.fromkeys(goals))

    def looks(self):
        """The numbers of pairs after which an open verdict is looked at again."""
        return [look for look in LOOKS if self.pairs < look < self.most] + [self.most] * (self.most > self.pairs)

    def window(self, series):
        """A round over 10,000 connections takes longer."""
        return self.seconds if series.connections < 10000 else max(self.seconds, 0.8)

    def cost(self, series, server):
        """Estimated seconds of a run."""
        warmup = max(self.warmup, warmup_of(server, series))
        if series.exchange == "http":  # wrk takes whole seconds, for the warm-up, too
            return max(math.ceil(self.window(series)), 1) + max(math.ceil(warmup), 1) + 0.3
        return self.window(series) + warmup + 0.25 + series.connections / 8000
