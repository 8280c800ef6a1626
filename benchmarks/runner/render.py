#!/usr/bin/env python3
"""The report of bench.py as text, Markdown, HTML and a picture.

    render.py bench.json [--output FOLDER] [--document FILE] [--picture FILE]      write the pages again from the JSON
"""

import argparse
import json
import os
import sys
import textwrap

import limits
import page
import parts
import picture
import plots
import stats
from plots import main_figure, number

SCHEMA = 3  # of bench.json


def ratio(spread, full=False):
    if spread is None:
        return "-"
    return f"{spread['median']:.2f}" + (f" [{spread['low']:.2f}-{spread['high']:.2f}]" if full else "")


def ratio_3(spread):
    return f"{spread['median']:.3f} [{spread['low']:.3f}-{spread['high']:.3f}]"


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
    if row["late_runs"]:
        found.append(f"{row['late_runs']} of {2 * row['pairs']} runs below 98 % of this rate")
    if row["given_up"]:
        found.append("given up")
    return "; ".join(found + row["failures"])


FIGURES = ("rate", "cpu_us", "calls", "p50_us", "p90_us", "p99_us", "p99_9_us")
HEADINGS = ("server", "exchanges/s", "ratio", "CPU us", "ratio [interval]", "calls", "ratio", "p50 us", "ratio", "p90 us", "ratio",
            "p99 us", "ratio", "p99.9 us", "ratio", "pairs", "notes")


def right(column):
    return 0 < column < len(HEADINGS) - 1


def cells(series):
    """The table of a series as rows of text; first the baseline, if all rows share one, and its pairs with itself."""
    base, base_calls = series["baseline_values"], series["baseline_syscalls"]
    if base is not None:
        values = [calls(base_calls) if figure == "calls" else number(base[figure]) for figure in FIGURES]
        yield [series["baseline"], *(text for value in values for text in (value, "1")), "", "the baseline"]
    for row in ([series["again"]] if series["again"] else []) + series["rows"]:
        line = [row["server"]]
        for figure in FIGURES:
            line += ([calls(row["syscalls"]), quotient(row["syscalls"], base_calls)] if figure == "calls" else
                     [number(row["values"][figure]), ratio(row["ratios"][figure], figure == "cpu_us")])
        yield [*line, str(row["pairs"]), "; ".join(filter(None, [row is series["again"] and "the baseline with itself", notes(row)]))]


def placement(series):
    if not series["pinned"]:
        return "Not pinned"
    return "Server pinned, load on both CPUs" if series.get("overload") else "Pinned"


def text_series(series):
    title = series["title"] + ("" if placement(series) == "Pinned" else f" ({placement(series).lower()})")
    return f"{title}\n{again(series)}\n" + stats.columns([[heading.split(" [")[0] for heading in HEADINGS], *cells(series)], right)


def again(series):
    """The ratio of the A/A pairs: how far two equal servers differ in this series."""
    row, figure = series["again"], main_figure(series)
    if not row or not row["ratios"][figure]:
        return "A/A: not measured"
    what = {"cpu_us": "CPU", "rate": "rate", "p90_us": "p90"}[figure]
    return f"A/A, {series['baseline']} with itself: {what} {ratio_3(row['ratios'][figure])}, {stats.count(row['pairs'], 'pair')}"


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
    yield (f"Written by `{report['command']}` on {machine['date']} in {minutes:.0f} minutes. "
           + ("" if report["complete"] else "The run was interrupted, so rows are missing. ")
           + ("A short run tests the runner: its figures mean nothing. " if report["kind"] == "short" else "")
           + "`benchmarks/README.md` defines every figure and names the peers.")
    yield (f"A row has {report['pairs_wanted']} alternating pairs of runs, one of its server and one of the baseline of its series. "
           f"It has up to {report['pairs_max']} while a verdict is open, and fewer where time ran out. "
           f"Every run has a fresh server and {report['warmup_s']} s of warm-up. A ratio is the median of the pairs' ratios to the baseline. "
           "It is not the quotient of the two medians shown, which come from all runs. "
           "The brackets contain the true median with a probability of at least 0.9 from five pairs on. "
           "A series begins with pairs of the baseline with itself (A/A): what differs by less than these is noise. "
           "More exchanges a second are better; for all other figures, less is better. "
           + counting(report))


def about(series):
    """The sentences below the title of a series."""
    loop = "open" if series["open_loop"] else "closed"
    rate = " The baseline runs at the rate of each row." if series["open_loop"] else ""
    yield f"{placement(series)}, {loop} loop, {series['window_s']} s per run, baseline `{series['baseline']}`.{rate}"
    yield again(series) + "."


def sections(report):
    """Of one page, Markdown or HTML: title, paragraphs, plots, headings and rows of each table, and which columns are aligned to the right."""
    if report["limits"]:
        notes = [*filter(None, [limits.conclusion(report["limits"])]), limits.LEGEND]
        yield "What xchgd must reach", notes, [], limits.HEADINGS, list(limits.cells(report["limits"])), limits.right
    for each in report["series"]:
        yield each["title"][0].upper() + each["title"][1:], list(about(each)), plots.of_series(each), HEADINGS, list(cells(each)), right
    for each in report["single_measurements"]:
        rows = [[name, ", ".join(number(value) for value in values)] for name, values in each["figures"].items()]
        yield (each["title"][0].upper() + each["title"][1:], [each["note"]] if each["note"] else [], plots.of_single(each),
               ("figure", "values"), rows, lambda column: column == 1)


PARTS = {"core": "xchgd and its peers", "languages": "Servers in other languages", "http": "HTTP, loaded by wrk"}


def markdown(report):
    """The part of docs/benchmarks.md that belongs to a report."""
    lines = [f"## {PARTS[report['group']]}", "", *(textwrap.fill(each, 100) + "\n" for each in introduction(report)), "| | |", "|---|---|",
             *[f"| {what} | {value} |" for what, value in machine_facts(report["machine"])], ""]
    if report["skipped"]:
        lines += ["Skipped:", "", *[textwrap.fill(f"- {line}", 100, subsequent_indent="  ") for line in report["skipped"]], ""]
    for title, texts, _, headings, rows, aligned in sections(report):
        lines += [f"### {title}", "", *(textwrap.fill(each, 100) + "\n" for each in texts), stats.markdown(headings, rows, aligned), ""]
    return "\n".join(lines)


DOCUMENT = """# Benchmarks

`make bench`, `make bench-languages` and `make bench-http` write this page. Each of them replaces
its own part and keeps the others. Do not edit: run it again.
"""


def document(text, report, image=None):
    """docs/benchmarks.md: ${text}, with the part of this report replaced. image: the picture's address."""
    found = parts.replace(text, report["group"], markdown(report))
    head = DOCUMENT + (f"\n![{picture.TITLE}]({image})\n" if image else "")
    return head + "".join(f"\n{parts.mark(*each)}\n" for each in found.items())


def write(path, text):
    """Replace the file in one step, so that a reader never sees half a page."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".new", "w") as stream:
        stream.write(text)
    os.replace(path + ".new", path)


def read(path):
    """The text of a file; empty if there is none."""
    try:
        with open(path) as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def write_json(report, folder):
    write(os.path.join(folder, "bench.json"), json.dumps(report, indent=1) + "\n")


def write_all(report, folder, document_path=None, picture_path=None):
    """bench.json and bench.html, and this report's parts of the document and of the picture."""
    write_json(report, folder)
    write(os.path.join(folder, "bench.html"), page.html(introduction(report), machine_facts(report["machine"]), report["skipped"], sections(report)))
    drawn = picture.part(report) if picture_path else None
    if drawn:
        write(picture_path, picture.stack(parts.replace(read(picture_path), report["group"], drawn)))
    if document_path:
        shown = picture_path and os.path.exists(picture_path)
        image = os.path.relpath(picture_path, os.path.dirname(os.path.abspath(document_path))) if shown else None
        write(document_path, document(read(document_path), report, image))


def main():
    parser = argparse.ArgumentParser(description="Write the text, the HTML page and the Markdown page again from a bench.json.")
    parser.add_argument("report")
    parser.add_argument("--output", help="the folder of bench.html (that of the report)")
    parser.add_argument("--document", help="a Markdown page whose part of this group is written as well")
    parser.add_argument("--picture", help="a picture (SVG) whose part of this group is written as well")
    options = parser.parse_args()
    with open(options.report) as stream:
        report = json.load(stream)
    if report.get("schema") != SCHEMA:
        sys.exit(f"{options.report}: schema {report.get('schema')}, want {SCHEMA}")
    print(text_machine(report["machine"]))
    for series in report["series"]:
        print("\n" + text_series(series))
    write_all(report, options.output or os.path.dirname(os.path.abspath(options.report)), options.document, options.picture)


if __name__ == "__main__":
    main()
