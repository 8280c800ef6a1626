#!/usr/bin/env python3
"""The report of bench.py as text, Markdown and HTML.

    render.py bench.json [--output FOLDER] [--document FILE]      write the pages again from the JSON
"""

import argparse
import json
import os
import sys
import textwrap

import limits
import page
import stats

SCHEMA = 2  # of bench.json


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


def ratio(spread, full=False):
    if spread is None:
        return "-"
    return f"{spread['median']:.2f}" + (f" [{spread['low']:.2f}-{spread['high']:.2f}]" if full else "")


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


FIGURES = ("rate", "cpu_us", "calls", "p50_us", "p90_us", "p99_us", "p99_9_us")
HEADINGS = ("server", "exchanges/s", "ratio", "CPU us", "ratio [2nd lowest-2nd highest]", "calls", "ratio", "p50 us", "ratio", "p90 us", "ratio",
            "p99 us", "ratio", "p99.9 us", "ratio", "pairs", "notes")


def right(column):
    return 0 < column < len(HEADINGS) - 1


def cells(series):
    """The table of a series as rows of text; first the baseline, if all rows share one."""
    base, base_calls = series["baseline_values"], series["baseline_syscalls"]
    if base is not None:
        values = [calls(base_calls) if figure == "calls" else number(base[figure]) for figure in FIGURES]
        yield [series["baseline"], *(text for value in values for text in (value, "1")), "", "the baseline"]
    for row in series["rows"]:
        line = [row["server"]]
        for figure in FIGURES:
            line += ([calls(row["syscalls"]), quotient(row["syscalls"], base_calls)] if figure == "calls" else
                     [number(row["values"][figure]), ratio(row["ratios"][figure], figure == "cpu_us")])
        yield [*line, str(row["pairs"]), notes(row)]


def placement(series):
    if not series["pinned"]:
        return "Not pinned"
    return "Server pinned, load on both CPUs" if series.get("overload") else "Pinned"


def text_series(series):
    title = series["title"] + ("" if placement(series) == "Pinned" else f" ({placement(series).lower()})")
    return title + "\n" + stats.columns([[heading.split(" [")[0] for heading in HEADINGS], *cells(series)], right)


RATIO_NOTE = "A ratio is the median over pairs of runs. It is not the quotient of the two medians shown, which come from all runs."


def text_single(each):
    """A single measurement."""
    figures = [f"  {name}: {', '.join(number(value) for value in values)}" for name, values in each["figures"].items()]
    return "\n".join([each["title"], *figures, *([f"  {each['note']}"] if each["note"] else [])])


def machine_facts(machine):
    """(what, value) for people."""
    yield "CPU", f"{machine['cpu']}, {machine['architecture']}, {machine['cpus']} CPUs" + (", virtual" if machine["hypervisor"] else "")
    yield "Governor", machine["governor"]
    yield "Memory", f"{machine['memory_gib']} GiB"
    yield "System", f"{machine['distribution']}, Linux {machine['kernel']}"
    yield "Limits", f"{machine['descriptors']} descriptors per process, somaxconn {machine['somaxconn']}"
    yield "Server and load on CPU", f"{machine['cpu_of_the_server']} and {machine['cpu_of_the_load']}"
    if machine["cpu_of_the_server"] == machine["cpu_of_the_load"]:
        yield "Note", "one CPU only: server and load share it, so rates and latencies mean little"
    yield "Load average before", f"{machine['load_average_before']:.2f}"


def text_machine(machine):
    return "\n".join(f"{what}: {value}" for what, value in machine_facts(machine))


def counting(report):
    """How the system calls were counted."""
    if report.get("group", "core") != "core":
        return "Servers with a compiler at run time get up to 2 s of warm-up. System calls are not counted."
    return (f"Separate runs with {report['syscalls_by']} counted the system calls." if report["syscalls_by"]
            else "System calls were not counted: perf was not permitted and strace was not installed.")


def introduction(report):
    """The paragraphs above the tables."""
    machine, minutes = report["machine"], report["seconds"] / 60
    yield (f"Written by `{report['command']}` on {machine['date']} in {minutes:.0f} minutes. Do not edit: run it again. "
           + ("" if report["complete"] else "The run was interrupted, so rows are missing. ")
           + "`benchmarks/README.md` defines every figure and names the peers.")
    yield (f"A row has up to {report['pairs_wanted']} alternating pairs of runs: one of its server, one of the baseline of its series. "
           f"Every run has a fresh server and {report['warmup_s']} s of warm-up. A ratio is the median of the pairs' ratios to the baseline. "
           "It is not the quotient of the two medians shown, which come from all runs. "
           "The brackets have the second lowest and the second highest ratio; with fewer than five pairs, the lowest and the highest. "
           "More exchanges a second are better; for all other figures, less is better. A ratio within 3 % of 1 is noise. "
           + counting(report))


def sections(report):
    """Of one page, Markdown or HTML: title, text, chart, headings and rows of each table, and which columns are aligned to the right."""
    if report.get("limits"):
        yield "What xchgd must reach", "", "", limits.HEADINGS, list(limits.cells(report["limits"])), limits.right
    for each in report["series"]:
        text = f"{placement(each)}, {'open' if each['open_loop'] else 'closed'} loop, {each['window_s']} s per run, baseline `{each['baseline']}`."
        yield each["title"][0].upper() + each["title"][1:], text, page.chart(each), HEADINGS, list(cells(each)), right


def markdown(report):
    """docs/benchmarks.md."""
    lines = ["# Benchmarks", "", *(textwrap.fill(each, 100) + "\n" for each in introduction(report)), "| | |", "|---|---|",
             *[f"| {what} | {value} |" for what, value in machine_facts(report["machine"])], ""]
    if report["skipped"]:
        lines += ["Skipped:", "", *[f"- {line}" for line in report["skipped"]], ""]
    for title, text, _, headings, rows, aligned in sections(report):
        lines += [f"## {title}", "", *([text, ""] if text else []), stats.markdown(headings, rows, aligned), ""]
    return "\n".join(lines)


def write(path, text):
    """Replace the file in one step, so that a reader never sees half a page."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".new", "w") as stream:
        stream.write(text)
    os.replace(path + ".new", path)


def write_all(report, folder, document=None):
    write(os.path.join(folder, "bench.json"), json.dumps(report, indent=1) + "\n")
    write(os.path.join(folder, "bench.html"), page.html(introduction(report), machine_facts(report["machine"]), report["skipped"], sections(report)))
    if document:
        write(document, markdown(report))


def main():
    parser = argparse.ArgumentParser(description="Write the text, the HTML page and the Markdown page again from a bench.json.")
    parser.add_argument("report")
    parser.add_argument("--output", help="the folder of bench.html (that of the report)")
    parser.add_argument("--document", help="a Markdown page to write as well")
    options = parser.parse_args()
    with open(options.report) as stream:
        report = json.load(stream)
    if report.get("schema") != SCHEMA:
        sys.exit(f"{options.report}: schema {report.get('schema')}, want {SCHEMA}")
    print(text_machine(report["machine"]))
    for series in report["series"]:
        print("\n" + text_series(series))
    write_all(report, options.output or os.path.dirname(os.path.abspath(options.report)), options.document)


if __name__ == "__main__":
    main()
