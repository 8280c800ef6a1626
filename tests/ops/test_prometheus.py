"""A real Prometheus scrapes both forms of the metrics; its numbers are held against the load generator's and the kernel's.

The server and the load run in a network namespace of their own, so that the kernel's count of accepted connections is theirs alone. Its
admin endpoint is a UNIX socket, which other namespaces reach too; relays lead Prometheus there.
"""

import contextlib
import json
import os
import re
import subprocess
import tempfile
import unittest
import urllib.parse

from ops import LOGS, TOP, Load, Operated, Relay, get_json, log_path, program, run, series, tool, unused_port, wait_until

EXCHANGES = 3000
SCRAPES = 3

# Numbers that go on while no client uses the server, or differ with who asks.
MOVING = re.compile(r"^(process_|xchg_turn_seconds|xchg_worker_busy|xchg_worker_turn_age|up|scrape_|xchg_build|xchg_wakeups)")


def namespace():
    """The command that starts a program in a network namespace of its own."""
    rights = ["-rn"] if os.getuid() else ["-n"]
    return [tool("unshare"), *rights, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def inside(pid):
    """The command that starts a program in the namespace of another."""
    rights = ["-U", "--preserve-credentials"] if os.getuid() else []
    return [tool("nsenter"), "-t", str(pid), *rights, "-n"]


def passive_opens(pid):
    """The connections that the kernel has established for listeners in the namespace of a process."""
    with open(f"/proc/{pid}/net/snmp") as stream:
        names, values = (line.split()[1:] for line in stream if line.startswith("Tcp:"))
    return int(values[names.index("PassiveOpens")])


def plain_text(head):
    """A request for the text form: Prometheus 2.42 cannot be told to ask for it."""
    return re.sub(rb"(?i)\r\naccept:[^\r]*", b"\r\nAccept: text/plain;version=0.0.4", head)


def without_end(answer):
    """An answer without the line # EOF, and without the length that would not be right any more."""
    return re.sub(rb"(?i)\r\ncontent-length:[^\r]*", b"", answer.replace(b"# EOF\n", b""), count=1)


class Prometheus:
    """Prometheus with the shipped rules, scraping {form: port} every second as job="xchg"."""

    def __init__(self, targets):
        self.folder = tempfile.TemporaryDirectory()
        self.port = unused_port()
        self.config = os.path.join(self.folder.name, "prometheus.yml")
        groups = [{"targets": [f"127.0.0.1:{port}"], "labels": {"form": form}} for form, port in targets.items()]
        with open(self.config, "w") as out:  # JSON is YAML
            json.dump({"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [os.path.join(TOP, "docs/deploy/alerts.yml")],
                       "scrape_configs": [{"job_name": "xchg", "static_configs": groups}]}, out)
        self.stack = contextlib.ExitStack()

    def api(self, path, **parameters):
        answer = get_json(self.port, f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        if answer["status"] != "success":
            raise AssertionError(answer)
        return answer["data"]

    def query(self, expression):
        """{labels as sorted pairs: value}"""
        found = {}
        for one in self.api("query", query=expression)["result"]:
            found[tuple(sorted(one["metric"].items()))] = float(one["value"][1])
        return found

    def number(self, expression):
        """The only value of an expression, or None."""
        values = list(self.query(expression).values())
        return values[0] if len(values) == 1 else None

    def is_ready(self):
        with contextlib.suppress(OSError, AssertionError):
            return bool(self.api("targets")["activeTargets"])
        return False

    def __enter__(self):
        self.stack.enter_context(program("prometheus", f"--config.file={self.config}", f"--storage.tsdb.path={self.folder.name}/data",
                                         f"--web.listen-address=127.0.0.1:{self.port}", log="prometheus.txt"))
        wait_until(self.is_ready, f"Prometheus answers; see {LOGS}/prometheus.txt", 40)
        return self

    def __exit__(self, *exception):
        self.stack.close()
        self.folder.cleanup()


class Scrapes(unittest.TestCase):
    def test_totals_are_those_of_the_load_and_of_the_kernel(self):
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            local = os.path.join(folder, "data.sock")
            server = stack.enter_context(Operated(wrap=namespace(), folder=folder, XCHG_WORKERS=2, XCHG_LISTEN=f"127.0.0.1:0,unix:{local}",
                                                  XCHG_ADMIN=f"unix:{folder}/admin.sock"))
            relays = {form: stack.enter_context(Relay(server.admin_path, **hooks)) for form, hooks in
                      {"open": {}, "text": {"change": plain_text}, "broken": {"reply": without_end}}.items()}
            prometheus = stack.enter_context(Prometheus({form: relay.port for form, relay in relays.items()}))
            for form in ("open", "text"):
                wait_until(lambda form=form: prometheus.number(f'count_over_time(xchg_connections_open{{form="{form}"}}[1h])'), f"the first scrape, {form}")

            load = stack.enter_context(Load(server.addresses[0], "-n", EXCHANGES, "-R", EXCHANGES / 3, "-c", 8, wrap=inside(server.pid), log="prometheus-load"))
            report = load.finish()
            for _ in range(7):
                stack.enter_context(server.connect(address=f"unix:{local}"))
            server.wait_stats(lambda stats: stats["open"] == 7)
            self.assertEqual(report["exchanges"], EXCHANGES)
            self.assertEqual({kind: n for kind, n in report["errors"].items() if n}, {})
            opens = passive_opens(server.pid)
            self.assertEqual(opens, EXCHANGES)
            for form in ("open", "text"):
                with self.subTest(form=form):
                    self.see_totals(prometheus, form, server.addresses[0], report)
            self.see_forms(prometheus, server)
            self.see_rules(prometheus)

    def see_totals(self, prometheus, form, listener, report):
        chosen = f'{{form="{form}"}}'
        wait_until(lambda: prometheus.number(f"xchg_connections_accepted_total{chosen}") == EXCHANGES + 7
                   and prometheus.number(f"sum(xchg_worker_connections_open{chosen})") == 7, "the last of the load is scraped")
        wait_until(lambda: prometheus.number(f"count_over_time(xchg_connections_accepted_total{chosen}[1h])") >= SCRAPES, f"{SCRAPES} scrapes")
        # In every scrape, also in the middle of the load.
        off = f"xchg_connections_accepted_total{chosen} - xchg_connections_open{chosen} - on (instance) sum by (instance) (xchg_connections_ended_total{chosen})"
        sums = prometheus.query(f"max_over_time(abs({off})[1m:1s])")
        self.assertEqual(set(sums.values()), {0.0})
        self.assertEqual(prometheus.number(f'xchg_listener_connections_accepted_total{{form="{form}",listener="{listener}"}}'), EXCHANGES)
        self.assertEqual(prometheus.number(f'xchg_connections_ended_total{{form="{form}",reason="finished"}}'), EXCHANGES)
        self.assertEqual(prometheus.number(f"xchg_connections_open{chosen}"), 7)
        self.assertEqual(prometheus.number(f"sum(xchg_worker_connections_open{chosen}) + sum(xchg_worker_queue_connections{chosen})"), 7)
        self.assertEqual(prometheus.number(f"xchg_messages_received_total{chosen}"), EXCHANGES)
        self.assertEqual(prometheus.number(f"sum(xchg_worker_messages_received_total{chosen})"), EXCHANGES)
        self.assertEqual(prometheus.number(f"xchg_received_bytes_total{chosen}"), report["bytes_out"])
        self.assertEqual(prometheus.number(f"xchg_sent_bytes_total{chosen}"), report["bytes_in"] + 7 * 20)  # the held clients were greeted
        self.assertEqual(prometheus.number(f"xchg_handoff_seconds_count{chosen}"), EXCHANGES + 7)
        self.assertEqual(prometheus.number(f'xchg_handoff_seconds_bucket{{form="{form}",le="+Inf"}}'), EXCHANGES + 7)

    def see_forms(self, prometheus, server):
        """Each form was taken as what it is, has its units, and says the same."""
        def metadata(form, metric):
            return [(one["type"], one["unit"]) for one in prometheus.api("targets/metadata", match_target=f'{{form="{form}"}}', metric=metric)]

        self.assertEqual(metadata("open", "xchg_handoff_seconds"), [("histogram", "seconds")])
        self.assertEqual(metadata("open", "xchg_received_bytes"), [("counter", "bytes")])
        self.assertEqual(metadata("open", "process_resident_memory_bytes"), [("gauge", "bytes")])
        self.assertEqual(metadata("text", "xchg_handoff_seconds"), [("histogram", "")])
        self.assertEqual(metadata("text", "xchg_received_bytes_total"), [("counter", "")])
        for one in prometheus.api("targets/metadata", match_target='{form="open"}'):
            self.assertTrue(one["help"], one)
            self.assertNotEqual(one["type"], "unknown", one)
            unit = next((unit for unit in ("seconds", "bytes") if one["metric"].endswith("_" + unit)), "")
            self.assertEqual(one["unit"], unit, one)

        def samples(form):
            found = {}
            for labels, value in prometheus.query(f'{{form="{form}"}}').items():
                labels = dict(labels)
                name = labels.pop("__name__")
                if not MOVING.match(name):
                    if "le" in labels:
                        labels["le"] = float(labels["le"])  # OpenMetrics wants 1.0 where the text form has 1
                    found[name, tuple(sorted((key, text) for key, text in labels.items() if key not in ("form", "instance")))] = value
            return found

        self.assertGreater(len(samples("open")), 60)
        self.assertEqual(samples("open"), samples("text"))
        for target in prometheus.api("targets")["activeTargets"]:
            broken = target["labels"]["form"] == "broken"
            self.assertEqual(target["health"], "down" if broken else "up", target)
            self.assertEqual("EOF" in target["lastError"], broken, target)

    def see_rules(self, prometheus):
        """The shipped rules run on the real numbers, and none fires but the one about the target that is broken on purpose."""
        rules = [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]
        self.assertEqual({rule["health"] for rule in rules}, {"ok"})
        active = {(alert["labels"]["alertname"], alert["labels"]["form"]) for alert in prometheus.api("alerts")["alerts"]}
        self.assertLessEqual(active, {("XchgDown", "broken")})


class Promtool(unittest.TestCase):
    """promtool reads the text form only. Scrapes has Prometheus itself read the other one, and looks at each type, help and unit."""

    def test_text_form_is_accepted(self):
        with Operated() as server, Load(server.addresses[0], "-n", 100, log="promtool-load") as load:
            load.finish()
            status, headers, body = server.ask("/metrics")
            self.assertEqual((status, headers["Content-Type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
            self.assertEqual(self.check("metrics-text.txt", body), (0, ""))
            self.assertEqual(series(body.decode())["xchg_connections_accepted_total"], 100)
            # Mutants: a unit that is none of Prometheus' own, a family without a help, a counter without its ending.
            for old, new in ((b"xchg_handoff_seconds", b"xchg_handoff_milliseconds"), (b"# HELP xchg_workers ", b"# "), (b"xchg_posts_total", b"xchg_posts")):
                self.assertIn(old, body)
                self.assertNotEqual(self.check("metrics-mutant.txt", body.replace(old, new))[0], 0, old)

    def check(self, name, body):
        with open(log_path(name), "w+b") as stream:
            stream.write(body)
            stream.seek(0)
            ran = subprocess.run([tool("promtool"), "check", "metrics"], stdin=stream, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        return ran.returncode, ran.stdout

    def test_curl_and_jq_read_stats(self):
        with Operated() as server:
            stats = run("curl", "--silent", "--fail", "--max-time", 10, "--unix-socket", server.admin_path, "http://localhost/stats")
            path = log_path("stats.json")
            with open(path, "w") as out:
                out.write(stats)
            self.assertEqual(run("jq", "-r", "[.schema, .pid, .state, .open] | @csv", path), f'1,{server.pid},"serving",0\n')
            self.assertEqual(run("jq", "[.. | numbers | select(. != floor)] | length", path), "0\n")  # integers only


if __name__ == "__main__":
    unittest.main()
