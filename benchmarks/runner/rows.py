"""Figures with their targets, as lines of a table."""

from servers import Failure


class Absent(Failure):
    """Something is not installed, or not built."""


def row(what, value, *, most=None, within=None, unit="", note=""):
    """A line of the table. most: the target is value <= most; within: it is a distance from 1 of at most that."""
    target, verdict = "", ""
    if most is not None:
        target, passed = f"<= {most:,.2f}" if isinstance(most, float) else f"<= {most:,}", value <= most
    elif within is not None:
        target, passed = f"{1 - within:.2f}..{1 + within:.2f}", abs(value - 1) <= within
    if target:
        verdict = "pass" if passed else "FAIL"
    return {"what": what, "value": value, "unit": unit, "target": target, "verdict": verdict, "note": note}


def missing(what, problem, aimed=True):
    """A figure that could not be measured: a fault where it has a target, unless what it takes is not installed."""
    skipped = isinstance(problem, Absent) or not aimed
    return {"what": what, "value": None, "unit": "", "target": "", "verdict": "skipped" if skipped else "FAIL", "note": str(problem)}


def text_of(each):
    if each["value"] is None:
        value = "-"
    elif each["unit"]:
        value = f"{each['value']:,.{1 if abs(each['value']) < 10 else 0}f} {each['unit']}"
    else:
        value = f"{each['value']:.3f}".rstrip("0").rstrip(".") if each["value"] == int(each["value"]) else f"{each['value']:.3f}"
    return (each["what"], value, each["target"], each["verdict"], each["note"])


def table(rows):
    lines = [("figure", "reached", "target", "", ""), *map(text_of, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    return "\n".join("  ".join([line[0].ljust(widths[0]), line[1].rjust(widths[1]), line[2].rjust(widths[2]), line[3].ljust(widths[3]),
                                line[4]]).rstrip() for line in lines)
