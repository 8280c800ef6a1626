"""The alert rules of docs/deploy/alerts.yml: promtool accepts them, each fires, mutants are found, each name exists, each is documented."""

import concurrent.futures
import os
import re
import tempfile
import unittest

from ops import TOP, Operated, run, series

RULES = os.path.join(TOP, "docs", "deploy", "alerts.yml")
TESTS = os.path.join(TOP, "tests", "ops", "alerts_test.yml")
NAME = re.compile(r"\b(?:xchg|process)_\w+")

# Limits with the next step on either side that must be noticed; a limit of a ratio or a rate.
LIMIT_STEP = {"> 0.01": "> 0.05", "> 0.9": "> 0.99", "< 0.6": "< 0.3", "> 0.1": "> 0.9", "> 15": "> 25", "> 1": "> 9", "> 2": "> 9", "> 5": "> 500"}


def read(path):
    with open(path) as stream:
        return stream.read()


def rules():
    """{alert: text of the rule}"""
    blocks = re.split(r"^      - alert: ", read(RULES), flags=re.M)[1:]
    return {block.split("\n", 1)[0]: block for block in blocks}


def names(text):
    """The names of metrics in a text, comments and annotations apart."""
    code = re.sub(r"#.*|summary:.*|runbook:.*", "", text)
    return set(NAME.findall(code))


def mutants():
    """(what, text of the whole file) of rules that are wrong in one place."""
    whole = read(RULES)
    for alert, rule in rules().items():
        for name in sorted(names(rule)):
            yield f"{alert}: {name} is unknown", whole.replace(rule, re.sub(rf"\b{name}\b", f"{name}x", rule))
        for old, new in LIMIT_STEP.items():
            if f" {old}\n" in rule:
                yield f"{alert}: {old} is {new}", whole.replace(rule, rule.replace(f" {old}\n", f" {new}\n"))
        if "\n        for: " in rule:
            yield f"{alert}: at once", whole.replace(rule, re.sub(r"\n        for: \w+", "", rule))
            yield f"{alert}: after two hours", whole.replace(rule, re.sub(r"\n        for: \w+", "\n        for: 2h", rule))
        for clause in re.findall(r"\s+(?:and|unless) on \(job, instance\)[^\n]*", rule):
            yield f"{alert}: without {clause.strip()}", whole.replace(rule, rule.replace(clause, ""))
        for reasons in re.findall(r'reason=~"([\w|]+)"', rule):
            for reason in reasons.split("|"):
                fewer = "|".join(one for one in reasons.split("|") if one != reason)
                yield f"{alert}: without reason {reason}", whole.replace(rule, rule.replace(reasons, fewer))


def scenarios(alert):
    """The tests with only those scenarios in which an alert fires."""
    head, *blocks = re.split(r"^(?=  - name: )", read(TESTS), flags=re.M)
    return head + "".join(block for block in blocks if f'"{alert}"' in block)


def finds(mutant):
    """Does promtool find the fault? The alert's own scenarios mostly do, and they are quick."""
    alert, text = mutant[0].split(":")[0], mutant[1]
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(os.path.join(folder, "docs", "deploy"))
        os.makedirs(os.path.join(folder, "tests", "ops"))
        with open(os.path.join(folder, "docs", "deploy", "alerts.yml"), "w") as stream:
            stream.write(text)
        for tests in (scenarios(alert), read(TESTS)):
            copy = os.path.join(folder, "tests", "ops", "alerts_test.yml")
            with open(copy, "w") as stream:
                stream.write(tests)
            if "FAILED" in run("promtool", "test", "rules", copy, expect=None):
                return True
        return False


class Alerts(unittest.TestCase):
    def test_promtool_accepts_them_and_their_tests_pass(self):
        self.assertIn(f"{len(rules())} rules found", run("promtool", "check", "rules", RULES))
        self.assertIn("SUCCESS", run("promtool", "test", "rules", TESTS))

    def test_each_fires_in_a_scenario(self):
        self.assertEqual(set(re.findall(r'alertname="(\w+)"', read(TESTS))), set(rules()))

    def test_mutants_are_found(self):
        found = list(mutants())
        self.assertGreater(len(found), 60)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            survivors = [what for (what, _), killed in zip(found, pool.map(finds, found)) if not killed]
        self.assertEqual(survivors, [])

    def test_names_are_those_of_a_server(self):
        with Operated() as server:
            text = server.get("/metrics")[2].decode()
        known = {key.split("{")[0] for key in series(text)}
        self.assertEqual(names(read(RULES)) - known, set())
        self.assertEqual(names("expr: xchg_conections_open > 1") - known, {"xchg_conections_open"})  # a mutant
        for alert, rule in rules().items():
            for label, values in re.findall(r'(\w+)=~?"([\w|]+)"', rule):
                if label != "job":
                    for value in values.split("|"):
                        self.assertIn(f'{label}="{value}"', text, alert)

    def test_each_is_documented(self):
        page = read(os.path.join(TOP, "docs", "operations.md"))
        self.assertEqual(re.findall(r"^### (Xchg\w+)$", page, re.M), list(rules()))
        for alert, rule in rules().items():
            self.assertIn(f"runbook: docs/operations.md#{alert.lower()}\n", rule)
            self.assertRegex(rule, r"severity: (critical|warning)")


if __name__ == "__main__":
    unittest.main()
