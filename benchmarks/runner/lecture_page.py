"""The pages of lecture.py: text, one HTML page with curves, and the block of figures in docs/lecture.md.

Every sentence with a figure is written here from the measurement, so that no page has to be corrected by hand.
"""

import statistics
import textwrap
from html import escape

import stats
from curves import Axis, Curve, Point, chart, sample
from render import machine_facts, number

SCHEMA = 1
FIGURES = ("rate", "cpu_us", "p50_us", "p90_us", "p99_us")
MODELS = ("iterative", "fork", "thread", "pool")
TITLES = {"fast": "Fast clients only", "silent": "One in ten says nothing"}
LONELY = {"fork": "process", "thread": "thread"}
COMPARED_AT = 100   # clients, at which the models are compared, or the next lower number that was measured
FAILED_SHARE = 0.001
BEGIN, END = "<!-- figures of make lecture: begin -->", "<!-- figures of make lecture: end -->"


# ---- arithmetic ----

def spread(values):
    """Median, lowest and highest; None without values."""
    values = [value for value in values if value is not None]
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "count": len(values)} if values else None


def summary(place):
    """The spread of each figure over the runs of a point, and what a reader must know about them.

    stops: in the median run no exchange ended. client_bound: the load generator was the limit in most runs.
    """
    runs = place["runs"]
    values = {figure: spread([run[figure] for run in runs]) for figure in FIGURES}
    ended, failed = sum(run["exchanges"] for run in runs), sum(run["failed"] for run in runs)
    values["stops"] = bool(runs) and statistics.median(run["exchanges"] for run in runs) == 0
    values["client_bound"] = 2 * sum(run["client_bound"] for run in runs) > len(runs)
    values["failed"] = failed / (ended + failed) if ended + failed else 0.0
    return values


class Results:
    """A report of lecture.py, by scenario, number of clients and server."""

    def __init__(self, report):
        self.report, self.clients = report, report["clients"]
        self.places = {(p["scenario"], p["clients"], p["server"]): p for p in report["points"]}
        self.held = {(row["clients"], row["server"]): row for row in report["held"]}
        self.servers = [server for server in report["servers"] if not server["again"]]
        self.names = [server["name"] for server in self.servers]
        self.rows = self.clients  # the numbers of clients that the tables show
        self.at = max([count for count in self.clients if count <= COMPARED_AT], default=min(self.clients))
        self.most = max(self.clients)

    def values(self, scenario, clients, name):
        place = self.places.get((scenario, clients, name))
        return place["values"] if place and place["runs"] else None

    def median(self, scenario, clients, name, figure):
        """A figure of a point; None if the server stops there or nothing was measured."""
        values = self.values(scenario, clients, name)
        return values[figure]["median"] if values and not values["stops"] and values[figure] else None

    def stops(self, scenario, name):
        """The numbers of clients at which a server ended no exchange."""
        found = [(count, self.values(scenario, count, name)) for count in self.clients]
        return [count for count, values in found if values and values["stops"]]

    def held_row(self, clients, name):
        row = self.held.get((clients, name))
        return row if row and row["failure"] is None else None

    def held_bytes(self, clients, name):
        row = self.held_row(clients, name)
        return row["bytes"] + row["page_table_bytes"] if row else None

    def bytes_per_connection(self, name):
        """What a further held connection costs; None if the server cannot hold several."""
        few, many = self.held_row(min(self.clients), name), self.held_row(self.most, name)
        if not few or not many or many["greeted"] <= few["greeted"]:
            return None
        return (self.held_bytes(self.most, name) - self.held_bytes(min(self.clients), name)) / (many["greeted"] - few["greeted"])

    def again(self, figure):
        """The spread of (the pool / the pool a second time) over neighbouring runs, without the lowest and the highest of five and more."""
        double = next((server["name"] for server in self.report["servers"] if server["again"]), None)
        ratios = []
        for (scenario, clients, name), place in self.places.items():
            other = self.places.get((scenario, clients, double))
            if name == "pool" and other:
                by_round = {run["round"]: run[figure] for run in other["runs"]}
                ratios += [run[figure] / by_round[run["round"]] for run in place["runs"] if run[figure] and by_round.get(run["round"])]
        return spread(sorted(ratios)[1:-1] if len(ratios) >= 5 else ratios)


# ---- words ----

def micro(us):
    """A time for people."""
    if us is None:
        return "-"
    return f"{number(us)} us" if us < 1000 else f"{number(us / 1000)} ms" if us < 1e6 else f"{number(us / 1e6)} s"


def size(amount):
    if amount is None:
        return "-"
    return f"{amount:.0f} B" if amount < 1024 else f"{number(amount / 1024)} KiB" if amount < 1 << 20 else f"{number(amount / (1 << 20))} MiB"


def tick_count(value):
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def tick_time(us):
    return "0" if us == 0 else f"{us:g} us" if us < 1000 else f"{us / 1000:g} ms" if us < 1e6 else f"{us / 1e6:g} s"


def per_connection(amount):
    """The difference of two measurements, of which the lowest is a page."""
    return "-" if amount is None else "less than 1 KiB" if amount < 1024 else size(amount)


def count_of(amount, what):
    return f"{amount:,} {what}" + ("" if amount == 1 else "es" if what.endswith("s") else "s")


def listed(counts):
    return ", ".join(f"{count:,}" for count in counts)


def about_iterative(results):
    low, high = min(results.clients), results.most
    times = [results.median("fast", count, "iterative", "p50_us") for count in (low, high)]
    rates = [results.median("fast", count, "iterative", "rate") for count in (low, high)]
    if None not in times + rates:
        yield (f"With fast clients it serves {number(rates[0])} exchanges a second with {low:,} client{'s' * (low > 1)} and {number(rates[1])} with {high:,}. "
               f"The clients wait in line: half of the exchanges take more than {micro(times[0])} with {low:,}, and more than {micro(times[1])} with {high:,}.")
    stopped = results.stops("silent", "iterative")
    if stopped == results.clients:
        yield "With silent clients it stops: not one exchange ended, whatever the number of clients."
    elif stopped:
        yield f"With silent clients it stops: not one exchange ended with {listed(stopped)} clients."
    row = results.held_row(results.most, "iterative")
    if row:
        yield f"Of {count_of(results.most, 'silent client')} it has greeted {row['greeted']:,}. The others wait in the kernel's backlog."


def about_cost(results, name):
    """CPU time and memory of a model beside the iterative server's."""
    base, own = (results.median("fast", results.at, each, "cpu_us") for each in ("iterative", name))
    if base is not None and own is not None:
        word = "more" if own >= base else "less"
        yield (f"With {results.at:,} clients an exchange costs {micro(own)} of server CPU. That is {micro(abs(own - base))} {word} than the "
               f"{micro(base)} of the iterative server.")
    listing, plain = (results.median("fast", results.at, f"textbook-{each}", "cpu_us") for each in (name, "iterative"))
    if listing is not None and plain is not None:
        yield (f"The textbook listing, which does nothing else, needs {micro(listing)} instead of {micro(plain)}: the {name} itself costs about "
               f"{micro(listing - plain)}. The rest is xchgd's: it opens an event loop, buffers and timers for each {LONELY[name]}.")
    row, more = results.held_row(results.most, name), results.bytes_per_connection(name)
    if row and more is not None:
        yield (f"With {row['greeted']:,} open connections it has {count_of(row['processes'], 'process')} and {count_of(row['threads'], 'thread')}. "
               f"A further connection takes {per_connection(more)} for pages and page tables.")


def about_silence(results, name):
    fast, silent = (results.median(scenario, results.at, name, "rate") for scenario in ("fast", "silent"))
    if fast and silent is not None:
        yield f"It serves {number(fast)} exchanges a second for {results.at:,} fast clients, and {number(silent)} with silent ones beside them."


def findings(results):
    """(heading, sentences) of each answer."""
    yield "Where the iterative server stops", list(about_iterative(results))
    for name, heading in (("fork", "What a fork costs"), ("thread", "What a thread costs"), ("pool", "Where the pool goes")):
        yield heading, [*about_cost(results, name), *about_silence(results, name)]


def noise(results):
    parts = [f"{what} {found['median']:.2f} [{found['low']:.2f}-{found['high']:.2f}]"
             for what, found in (("server CPU", results.again("cpu_us")), ("exchanges a second", results.again("rate"))) if found]
    if not parts:
        return ""
    return (f"The pool was measured twice in each place. Ratio of the two in pairs of runs: {', '.join(parts)}, the extremes left out. "
            "A difference within these brackets is noise.")


def written_by(report):
    machine = report["machine"]
    return (f"Written by `{report['command']}` on {machine['date']} in {count_of(max(round(report['seconds'] / 60), 1), 'minute')}: {machine['cpu']}, "
            f"{machine['cpus']} CPUs{', virtual' if machine['hypervisor'] else ''}, Linux {machine['kernel']}; the server on CPU "
            f"{machine['cpu_of_the_server']}, the load on CPU {machine['cpu_of_the_load']}. "
            f"Each figure is the median of {count_of(report['rounds'], 'run')} of {report['window_s']} s. "
            + ("" if report["complete"] else "The measurement was interrupted. "))


# ---- tables ----

def spread_text(found, text):
    return "-" if found is None else f"{text(found['median'])} ({text(found['low'])}-{text(found['high'])})"


def cell(results, scenario, clients, name, figure, text=number):
    """A figure of a point with its spread: `stops`, a failure, or a mark where something else was the limit."""
    values = results.values(scenario, clients, name)
    if values is None:
        place = results.places.get((scenario, clients, name))
        return place["failures"][-1] if place and place["failures"] else "-"
    if values["stops"]:
        return "stops"
    mark = "*" if values["client_bound"] and figure == "rate" else ""
    failed = f", {100 * values['failed']:.1f} % failed" if values["failed"] > FAILED_SHARE else ""
    return spread_text(values[figure], text) + mark + failed


def times_cell(results, scenario, clients, name):
    """The times within which 50, 90 and 99 % of the exchanges ended, in ms."""
    values = results.values(scenario, clients, name)
    if values is None or values["stops"]:
        return cell(results, scenario, clients, name, "p50_us")
    return " / ".join(number(values[figure]["median"] / 1000) if values[figure] else "-" for figure in ("p50_us", "p90_us", "p99_us"))


def held_cell(results, clients, name):
    row = results.held.get((clients, name))
    if row is None or row["failure"] is not None:
        return row["failure"] if row else "-"
    return f"{size(results.held_bytes(clients, name))}, {row['processes']:,} / {row['threads']:,}"


def table(results, of, names):
    """Headings and rows: a row for each number of clients, a column for each server."""
    return ["clients", *names], [[f"{count:,}", *(of(count, name) for name in names)] for count in results.rows]


def values_table(results, scenario, figure, names, text=number):
    return table(results, lambda count, name: cell(results, scenario, count, name, figure, text), names)


def costs(results):
    """The models beside each other."""
    headings = [f"model, {results.at:,} clients", "server CPU an exchange", "more than iterative", "exchanges/s", "with silent clients",
                f"greeted of {results.most:,} silent", "processes / threads then", "memory a connection"]
    rows, base = [], results.median("fast", results.at, "iterative", "cpu_us")
    for name in (name for name in MODELS if name in results.names):
        own, row = results.median("fast", results.at, name, "cpu_us"), results.held_row(results.most, name)
        more = "-" if own is None or base is None or name == "iterative" else f"{own - base:+.1f} us"
        rows.append([name, micro(own), more, cell(results, "fast", results.at, name, "rate").split(" (")[0],
                     cell(results, "silent", results.at, name, "rate").split(" (")[0], f"{row['greeted']:,}" if row else "-",
                     f"{row['processes']:,} / {row['threads']:,}" if row else "-", per_connection(results.bytes_per_connection(name))])
    return headings, rows


def right(column):
    return column > 0


# ---- pages of text ----

def text(report):
    """For the terminal."""
    results, parts = Results(report), []
    for scenario in TITLES:
        for figure, what in (("rate", "exchanges/s"), ("cpu_us", "server CPU, us an exchange")):
            headings, rows = values_table(results, scenario, figure, results.names)
            parts.append(f"{TITLES[scenario]}: {what}\n" + stats.columns([headings, *rows], right))
    for heading, sentences in findings(results):
        parts.append("\n".join([heading, *(f"  {sentence}" for sentence in sentences)]))
    return "\n\n".join([*parts, noise(results)])


def markdown(report):
    """The block of figures in docs/lecture.md; of many numbers of clients, the powers of ten."""
    results = Results(report)
    tens = [count for count in results.clients if set(str(count)[1:]) <= {"0"} and str(count)[0] == "1"]
    results.rows = tens if len(results.clients) > 4 and len(tens) > 1 else results.clients
    own = [name for name in MODELS if name in results.names]
    books = [name for name in results.names if name not in own]
    lines = [textwrap.fill(written_by(report) + noise(results), 100), "", stats.markdown(*costs(results), right), ""]
    for scenario in TITLES:
        lines += [f"{TITLES[scenario]}, exchanges a second:", "", stats.markdown(*values_table(results, scenario, "rate", own), right), ""]
    lines += ["Server CPU an exchange in us, fast clients only:", "", stats.markdown(*values_table(results, "fast", "cpu_us", own + books), right), "",
              "Time of an exchange in ms, fast clients only (50 / 90 / 99 % end within it):", "",
              stats.markdown(*table(results, lambda count, name: times_cell(results, "fast", count, name), own), right), "",
              "Silent connections: memory of the server, its processes / threads:", "",
              stats.markdown(*table(results, lambda count, name: held_cell(results, count, name), own), right)]
    if any("*" in line for line in lines):
        lines += ["", "\\* The load generator had used up its CPU, so the server could serve more."]
    return "\n".join(line.replace("*", "\\*") if line.startswith("|") else line for line in lines)


def fill(document, block):
    """The document with another block between its marks."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


# ---- the page ----

STYLE = """
:root { color-scheme: light dark; --ink: #1c2127; --soft: #56616f; --line: #d8dde4; --paper: #fcfcfb;
  --c0: #c2255c; --c1: #d9730d; --c2: #2b8a3e; --c3: #1f6fd6; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ee; --soft: #a3adbb; --line: #363d47; --paper: #15171a; --c0: #ff8fb3; --c1: #ffb061; --c2: #69db7c; --c3: #6aa9ff; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 84rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; margin: .5rem 0; } h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; } h3 { font-size: 1rem; margin: .8rem 0 0; }
p { margin: .3rem 0; max-width: 60rem; } a { color: inherit; } nav a { margin-right: 1rem; }
.note { color: var(--soft); font-size: 14px; }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 0 2rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem 2rem; }
figure { margin: 0; min-width: 0; } figcaption { font-weight: 600; margin-bottom: .3rem; }
.wide { overflow-x: auto; } .wide:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid var(--c3); outline-offset: 2px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; overflow-wrap: normal; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; } thead th { white-space: normal; min-width: 4.5rem; vertical-align: bottom; } td:first-child, th:first-child { text-align: left; }
summary { cursor: pointer; color: var(--soft); font-size: 14px; }
svg { display: block; width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .soft { fill: var(--soft); }
.grid { stroke: var(--line); } .line { fill: none; stroke: var(--own); stroke-width: 2.2; } .thin .line { stroke-width: 1.3; stroke-dasharray: 4 3; }
.mark { fill: var(--own); stroke: var(--own); stroke-width: 1.5; } .hollow { fill: var(--paper); } .whisker { stroke: var(--own); stroke-width: 1.3; }
.cross { fill: none; stroke: var(--own); stroke-width: 2.2; }
.c0 { --own: var(--c0); } .c1 { --own: var(--c1); } .c2 { --own: var(--c2); } .c3 { --own: var(--c3); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.5rem; list-style: none; margin: .8rem 0; padding: 0; }
.legend li { display: flex; align-items: center; gap: .5rem; } .sample { width: 3rem; flex: none; }
dl { display: grid; grid-template-columns: max-content auto; gap: 0 1rem; } dd { margin: 0; } dt { color: var(--soft); }
@media (max-width: 30rem) { dl { grid-template-columns: auto; } dd { margin-bottom: .4rem; } }
"""


def curve_of(results, server, point):
    """point(clients, name): a Point without its title, or None."""
    found = [point(count, server["name"]) for count in results.clients]
    return Curve(server["name"], MODELS.index(server["model"]), server["textbook"], [each for each in found if each])


def value_point(results, scenario, figure, text_of):
    def point(clients, name):
        values = results.values(scenario, clients, name)
        if values is None or (values[figure] is None and not values["stops"]):
            return None
        if values["stops"]:
            return Point(clients, title=f"{name}, {clients:,} clients: stops")
        found = values[figure]
        hollow = values["client_bound"] and figure == "rate"
        return Point(clients, found["median"], found["low"], found["high"], hollow,
                     f"{name}, {clients:,} clients: {spread_text(found, text_of)}" + ("; the load generator was the limit" if hollow else ""))
    return point


def held_point(results, of, text_of):
    def point(clients, name):
        row = results.held_row(clients, name)
        return Point(clients, of(row), title=f"{name}, {clients:,} clients: {text_of(of(row))}") if row else None
    return point


def html_table(headings, rows, label):
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in headings)
    body = "".join(f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(each)}</td>" for each in row[1:]) + "</tr>" for row in rows)
    return (f'<div class="wide" tabindex="0" role="region" aria-label="{escape(label)}"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>")


def figure(results, caption, point, axis, headings_and_rows):
    """A plot with its table."""
    curves = [curve for curve in (curve_of(results, server, point) for server in results.servers) if curve.points]
    if not curves:
        return f"<figure><p>{escape(caption)}: nothing was measured.</p></figure>"
    plot = chart(curves, axis, f"{caption}, a curve for each of {', '.join(curve.label for curve in curves)}; the table below has the figures")
    return (f"<figure><figcaption>{escape(caption)}</figcaption>{plot}<details><summary>Table: {escape(caption)}</summary>"
            f"{html_table(*headings_and_rows, caption)}</details></figure>")


# figure, caption, text of a value, text of a tick, logarithmic
PLOTS = [("rate", "exchanges a second", number, tick_count, False), ("cpu_us", "server CPU an exchange", micro, tick_time, True),
         ("p50_us", "time of an exchange, median", micro, tick_time, True), ("p90_us", "time of an exchange, 90 % end within it", micro, tick_time, True),
         ("p99_us", "time of an exchange, 99 % end within it", micro, tick_time, True)]


def scenario_plots(results, scenario):
    """The plots of both scenarios have the same axes, so that they can be compared."""
    for name, caption, text_of, tick_of, log in PLOTS:
        highest = max([values[name]["high"] for place in results.places.values() if (values := place["values"])[name]], default=0)
        axis = Axis(tick_of, log, highest)
        yield figure(results, f"{TITLES[scenario]}: {caption}", value_point(results, scenario, name, text_of), axis,
                     values_table(results, scenario, name, results.names, text_of))


def mib(row):
    return (row["bytes"] + row["page_table_bytes"]) / (1 << 20)


# caption, value of a row, text of a value, text of a tick
HELD_PLOTS = [("memory of the server in MiB", mib, number, tick_count),
              ("threads of the server, in all its processes", lambda row: row["threads"], "{:,}".format, tick_count),
              ("connections that were greeted", lambda row: row["greeted"], "{:,}".format, tick_count)]


def held_plots(results):
    for caption, of, text_of, tick_of in HELD_PLOTS:
        def text_cell(count, name, of=of, text_of=text_of):
            row = results.held_row(count, name)
            return text_of(of(row)) if row else held_cell(results, count, name)
        yield figure(results, f"Silent clients: {caption}", held_point(results, of, text_of), Axis(tick_of, True), table(results, text_cell, results.names))


def legend(results):
    items = "".join(f"<li>{sample(Curve(server['name'], MODELS.index(server['model']), server['textbook']))}"
                    f"<span><strong>{escape(server['name'])}</strong>: {escape(server['title'])}</span></li>" for server in results.servers)
    return f'<ul class="legend">{items}</ul>'


HOW = """Each client connects, reads the greeting, sends a message of 64 bytes and reads until the server closes; then it begins again. Every
run has a fresh server, pinned to one CPU; the load has another. The vertical line at a marker reaches from the lowest to the highest run. A cross below the plot: no exchange ended within the run. A hollow marker, and * in a table: the load
generator had used up its CPU, so the server could serve more. The textbook servers are dashed: blocking calls, no limits, no timeouts, an
immediate close. xchgd has all of these, and a safe close. Memory is the proportional size (Pss: a page that several processes share is divided among
them) and the page tables. The kernel's sockets and its own stack for each thread come on top."""


def html(report):
    results = Results(report)
    answers = "".join(f"<div><h3>{escape(heading)}</h3>" + "".join(f"<p>{escape(each)}</p>" for each in sentences) + "</div>"
                      for heading, sentences in findings(results))
    facts = "".join(f"<dt>{escape(what)}</dt><dd>{escape(str(value))}</dd>" for what, value in machine_facts(report["machine"]))
    skipped = "".join(f"<p>Skipped: {escape(line)}</p>" for line in report["skipped"])
    sections = "".join(f'<section id="{scenario}"><h2>{TITLES[scenario]}</h2>{about}{legend(results)}<div class="plots">'
                       f'{"".join(scenario_plots(results, scenario))}</div></section>'
                       for scenario, about in (("fast", ""), ("silent", "<p>Before the load starts, one more client for ten fast ones, at least one, "
                                                                        "connects. It says nothing until the run ends.</p>")))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>xchg: four concurrency models</title><link rel="icon" href="data:,"><style>{STYLE}</style></head><body>
<h1>Four concurrency models, measured</h1>
<p>{escape(written_by(report).replace("`", ""))}</p>
<nav aria-label="Sections"><a href="#answers">Answers</a><a href="#fast">Fast clients</a><a href="#silent">Silent clients</a><a href="#held">What is
held</a><a href="#how">How it was measured</a></nav>
<section id="answers"><h2>Answers</h2><div class="answers">{answers}</div>{html_table(*costs(results), "the models beside each other")}</section>
{sections}
<section id="held"><h2>What is held</h2><p>All clients connect and say nothing.</p>{legend(results)}<div class="plots">{"".join(held_plots(results))}</div></section>
<section id="how"><h2>How it was measured</h2><p>{escape(" ".join(HOW.split()))}</p><p>{escape(noise(results))}</p>{skipped}<dl>{facts}</dl></section>
</body></html>
"""
