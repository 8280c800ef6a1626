#!/usr/bin/env python3
"""The report of bench.py for people: `render.py bench.json [--output FOLDER] [--document FILE]` writes the pages again from the JSON."""

import argparse
import json
import os
import sys

import limits
import page


def number(value, digits=3):
    """Three significant digits, thousands with a k."""
    if value is None:
        return "-"
    if value >= 100000:
        return f"{value / 1000:,.0f}k"
    if value >= 10000:
        return f"{value / 1000:.1f}k"
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.{digits - 1 if value < 10 else digits - 2}f}"


def ratio(spread):
    return "-" if spread is None else f"{spread['median']:.2f} [{spread['low']:.2f}-{spread['high']:.2f}]"


def short_ratio(spread):
    return "-" if spread is None else f"{spread['median']:.2f}"


def quotient(value, base):
    return "-" if value is None or not base else f"{value / base:.2f}"


def calls(value):
    return "-" if value is None else f"{value:.2f}"


def notes(row):
    found = []
    if row["client_bound"]:
        found.append(f"client-bound in {row['client_bound']} of {row['pairs']}")
    if row["target_rate"]:
        found.append(f"at {number(row['target_rate'])}/s")
    if row["given_up"]:
        found.append("given up")
    return "; ".join(found + row["failures"])


HEADINGS = ("server", "exchanges/s", "ratio", "CPU us", "ratio [2nd lowest-2nd highest]", "calls", "ratio", "p50 us", "ratio", "p90 us", "ratio",
            "p99 us", "ratio", "p99.9 us", "ratio", "pairs", "notes")


def cells(series):
    """The table of a series: rows of text, the baseline first where it is one for all."""
    base = series["baseline_values"]
    if base is not None:
        values = [number(base[f]) for f in ("rate", "cpu_us", "p50_us", "p90_us", "p99_us", "p99_9_us")]
        yield [series["baseline"], values[0], "1", values[1], "1", calls(series["baseline_syscalls"]), "1", values[2], "1", values[3], "1", values[4],
               "1", values[5], "1", "", "the baseline"]
    for row in series["rows"]:
        v, r = row["values"], row["ratios"]
        yield [row["server"], number(v["rate"]), short_ratio(r["rate"]), number(v["cpu_us"]), ratio(r["cpu_us"]), calls(row["syscalls"]),
               quotient(row["syscalls"], series["baseline_syscalls"]), number(v["p50_us"]), short_ratio(r["p50_us"]), number(v["p90_us"]),
               short_ratio(r["p90_us"]), number(v["p99_us"]), short_ratio(r["p99_us"]), number(v["p99_9_us"]), short_ratio(r["p99_9_us"]),
               str(row["pairs"]), notes(row)]


def placement(series):
    if not series["pinned"]:
        return "Not pinned"
    return "Server pinned, load on both CPUs" if series.get("overload") else "Pinned"


def text_series(series):
    table = [list(HEADINGS), *cells(series)]
    table[0][4] = "ratio"
    widths = [max(len(row[i]) for row in table) for i in range(len(HEADINGS))]
    lines = [f"{series['title']}" + ("" if series["pinned"] and not series.get("overload") else f" ({placement(series).lower()})")]
    for row in table:
        lines.append("  ".join(text.ljust(w) if i in (0, len(row) - 1) else text.rjust(w)
                               for i, (text, w) in enumerate(zip(row, widths))).rstrip())
    return "\n".join(lines)


def text_single(each):
    """A measurement that is no series."""
    figures = [f"  {name}: {', '.join(number(value) for value in values)}" for name, values in each["figures"].items()]
    return "\n".join([each["title"], *figures, *([f"  {each['note']}"] if each["note"] else [])])


def machine_facts(machine):
    """(what, value) for people."""
    yield "CPU", f"{machine['cpu']}, {machine['architecture']}, {machine['cpus']} CPUs" + (", virtual" if machine["hypervisor"] else "")
    yield "Governor", machine["governor"]
    yield "Memory", f"{machine['memory_gib']} GiB"
    yield "System", f"{machine['distribution']}, Linux {machine['kernel']}"
    yield "Limits", f"{machine['descriptors']} descriptors a process, somaxconn {machine['somaxconn']}"
    yield "Server and load on CPU", f"{machine['cpu_of_the_server']} and {machine['cpu_of_the_load']}"
    if machine["cpu_of_the_server"] == machine["cpu_of_the_load"]:
        yield "Note", "one CPU only: server and load share it, rates and latencies say little"
    yield "Load average before", f"{machine['load_average_before']:.2f}"


def text_machine(machine):
    return "\n".join(f"{what}: {value}" for what, value in machine_facts(machine))


def markdown(report):
    """docs/benchmarks.md."""
    machine = report["machine"]
    lines = [
        "# Benchmarks", "",
        f"Written by `{report['command']}` on {machine['date']}; do not edit, run it again. `benchmarks/README.md` defines every figure "
        "and names the peers.", "", "| | |", "|---|---|",
        *[f"| {what} | {value} |" for what, value in machine_facts(machine)], "",
        f"Each row: up to {report['pairs_wanted']} alternating pairs of runs (the row's server, the series' baseline), "
        f"{report['warmup_s']} s of warm-up, a fresh server a run; the whole took {report['seconds'] / 60:.0f} minutes. Ratios are medians of the",
        "pairs' ratios to the baseline, with the second lowest and the second highest (of fewer than five pairs the lowest and the highest).",
        "Exchanges a second: more is better; all others: less. A ratio within 3 % of 1 says nothing.",
        f"System calls were counted by {report['syscalls_by']} in runs of their own." if report["syscalls_by"]
        else "System calls were not counted: neither perf (with permission) nor strace was there.", "",
    ]
    if report["skipped"]:
        lines += ["Skipped:", "", *[f"- {line}" for line in report["skipped"]], ""]
    for series in report["series"]:
        lines += [f"## {series['title'][0].upper()}{series['title'][1:]}", "",
                  f"{placement(series)}, {'open' if series['open_loop'] else 'closed'} loop, "
                  f"{series['window_s']} s a run; baseline `{series['baseline']}`.",
                  "", "| " + " | ".join(HEADINGS) + " |", "|---" + "|---:" * (len(HEADINGS) - 2) + "|---|"]
        lines += ["| " + " | ".join(row) + " |" for row in cells(series)]
        lines.append("")
    return "\n".join(lines)


def write(path, text):
    """All of it or nothing: a reader never sees half a page."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".new", "w") as stream:
        stream.write(text)
    os.replace(path + ".new", path)


def table_of_limits(report):
    rows = report.get("limits")
    return (limits.HEADINGS, list(limits.cells(rows))) if rows else None


def write_all(report, folder, document=None):
    write(os.path.join(folder, "bench.json"), json.dumps(report, indent=1) + "\n")
    write(os.path.join(folder, "bench.html"), page.html(report, list(HEADINGS), cells, list(machine_facts(report["machine"])), table_of_limits(report)))
    if document:
        write(document, markdown(report))


def main():
    parser = argparse.ArgumentParser(description="Write table, page and document again from a bench.json.")
    parser.add_argument("report")
    parser.add_argument("--output", help="the folder of bench.html (that of the report)")
    parser.add_argument("--document", help="the Markdown page to write as well")
    options = parser.parse_args()
    with open(options.report) as stream:
        report = json.load(stream)
    if report.get("schema") != 2:
        sys.exit(f"{options.report}: schema {report.get('schema')}, want 2")
    print(text_machine(report["machine"]))
    for series in report["series"]:
        print("\n" + text_series(series))
    write_all(report, options.output or os.path.dirname(os.path.abspath(options.report)), options.document)


if __name__ == "__main__":
    main()
