"""Decides whether a series of memory samples is flat.

The first third of the samples is the warm-up. A least-squares line through the rest gives the slope and
its one-sided 99 % bound. Neighbouring samples are correlated, so n samples count as n (1 - r) / (1 + r),
where r is the correlation of a sample with the next one.

A series is flat if both conditions hold:
- The bound is at most GROWTH bytes a second, or GROWTH_WINDOW bytes over the whole window if that is more.
- The median of the last third is at most MEDIAN bytes above that of the second third.
"""

import math
import statistics

GROWTH = 1024.0  # bytes a second
GROWTH_WINDOW = 512 * 1024.0  # bytes
MEDIAN = 512 * 1024.0  # bytes
SAMPLES_MIN = 60  # of the window; fewer are too few for a verdict
QUANTILE_99 = 2.326  # of the normal distribution


class Verdict:
    """slope, upper and allowed (the limit of upper) in bytes a second; rise of the medians in bytes."""

    def __init__(self, slope, upper, allowed, rise):
        self.slope, self.upper, self.allowed, self.rise = slope, upper, allowed, rise

    @property
    def flat(self):
        return self.upper <= self.allowed and self.rise <= MEDIAN

    def __str__(self):
        return (f"slope {self.slope:+.0f} B/s, 99 % below {self.upper:+.0f} of {self.allowed:.0f}; "
                f"median {self.rise / 1024:+.0f} KiB of {MEDIAN / 1024:.0f}")


def fit(times, values):
    """The slope and its standard error."""
    count = len(times)
    mean_t, mean_v = statistics.fmean(times), statistics.fmean(values)
    spread = sum((t - mean_t) ** 2 for t in times)
    slope = sum((t - mean_t) * (v - mean_v) for t, v in zip(times, values)) / spread
    rests = [v - mean_v - slope * (t - mean_t) for t, v in zip(times, values)]
    squares = sum(r * r for r in rests)
    alike = sum(a * b for a, b in zip(rests, rests[1:])) / squares if squares > 0 else 0.0
    alike = min(max(alike, 0.0), 0.95)
    independent = max(count * (1 - alike) / (1 + alike), 3.0)
    return slope, math.sqrt(squares / count / (independent - 2) * count / spread)


def judge(times, values):
    """A Verdict, or None if there are too few samples."""
    third = len(times) // 3
    window_t, window_v = times[third:], values[third:]
    if len(window_t) < SAMPLES_MIN:
        return None
    slope, error = fit(window_t, window_v)
    allowed = max(GROWTH, GROWTH_WINDOW / (window_t[-1] - window_t[0]))
    rise = statistics.median(values[2 * third:]) - statistics.median(values[third:2 * third])
    return Verdict(slope, slope + QUANTILE_99 * error, allowed, rise)
