#!/usr/bin/env python3
"""Runs the fuzz targets with libFuzzer: tests/fuzz/run.py --build DIR --seconds N [TARGET...]

Two targets run at a time, and each gets its share of N seconds.  New inputs are kept in build/fuzz/corpus.  The next run starts
from those and from tests/fuzz/corpus.  The last lines tell how many inputs each target has tried, in this run and in all runs
so far (build/fuzz/executions).  The exit code is 1 if an input failed; a line tells how to replay it.

    --minimize    instead: remove what is not needed for the same coverage from build/fuzz/corpus
"""

import argparse
import concurrent.futures
import glob
import os
import re
import shutil
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOGETHER = 2
INPUT_SECONDS_MAX = 20  # an input that takes longer is a failure
LONGEST = {"conn_memory": 600, "conn_socket": 600, "frame": 1500, "addr": 200, "value": 700, "config": 400, "log": 5000,
           "hdr_histogram": 600, "json_read": 2000, "options": 800, "proxy": 4400, "report": 12000, "upgrade": 3000, "conn_record": 1500}  # bytes of an input


class Target:
    """A fuzz target and its results."""

    def __init__(self, name, build):
        self.name = name
        self.program = os.path.join(build, "tests/fuzz", "fuzz_" + name)
        self.seeds = os.path.join(TOP, "tests/fuzz/corpus", name)
        self.corpus = os.path.join(build, "corpus", name)
        self.log = os.path.join(build, "log", name + ".log")
        self.crashes = os.path.join(build, "crash", name + "-")
        self.executions, self.rate, self.failed = 0, 0, False
        for folder in (self.seeds, self.corpus, os.path.dirname(self.log), os.path.dirname(self.crashes)):
            os.makedirs(folder, exist_ok=True)

    def run(self, arguments):
        command = [self.program, *arguments]
        dictionary = os.path.join(TOP, "tests/fuzz", self.name + ".dict")
        if os.path.exists(dictionary):
            command.append(f"-dict={dictionary}")
        if self.name in LONGEST:
            command.append(f"-max_len={LONGEST[self.name]}")
        with open(self.log, "wb") as log:
            code = subprocess.run(command, cwd=TOP, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT).returncode
        self.failed = code != 0
        with open(self.log, errors="backslashreplace") as log:
            return log.read()

    def fuzz(self, seconds):
        text = self.run([f"-max_total_time={seconds}", f"-timeout={INPUT_SECONDS_MAX}", "-rss_limit_mb=1500", "-print_final_stats=1",
                         f"-artifact_prefix={self.crashes}", self.corpus, self.seeds])
        found = re.search(r"stat::number_of_executed_units:\s+(\d+)", text)
        rate = re.search(r"stat::average_exec_per_sec:\s+(\d+)", text)
        self.executions = int(found.group(1)) if found else 0
        self.rate = int(rate.group(1)) if rate else 0
        if self.failed:
            self.tell(text)

    def tell(self, text):
        artifact = re.search(r"Test unit written to (\S+)", text)
        print(f"--- {self.name}\n" + "\n".join(text.splitlines()[-60:]))
        print(f"FAIL {self.name}: {self.program} {artifact.group(1) if artifact else ''}", flush=True)

    def minimize(self):
        old = self.corpus + ".old"
        shutil.rmtree(old, ignore_errors=True)
        os.rename(self.corpus, old)
        os.makedirs(self.corpus)
        self.run(["-merge=1", self.corpus, self.seeds, old])
        print(f"{self.name}: {len(os.listdir(old))} inputs, now {len(os.listdir(self.corpus))}", flush=True)


def read_totals(path):
    """{target: executions} of all runs so far."""
    if not os.path.exists(path):
        return {}
    with open(path) as f:
        return {name: int(count) for name, count in (line.split() for line in f if line.split()[0] != "total")}


def write_totals(path, totals):
    with open(path + ".new", "w") as f:
        for name in sorted(totals):
            f.write(f"{name} {totals[name]}\n")
        f.write(f"total {sum(totals.values())}\n")
    os.rename(path + ".new", path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--minimize", action="store_true")
    parser.add_argument("targets", nargs="*")
    options = parser.parse_args()
    every = sorted(os.path.basename(path)[len("fuzz_"):-len(".c")] for path in glob.glob(os.path.join(TOP, "tests/fuzz/fuzz_*.c")))
    unknown = set(options.targets) - set(every)
    if unknown:
        sys.exit(f"no such target: {' '.join(sorted(unknown))}; there are: {' '.join(every)}")
    targets = [Target(name, options.build) for name in options.targets or every]
    seconds = max(1, round(options.seconds * min(TOGETHER, len(targets)) / len(targets)))
    path = os.path.join(options.build, "executions")
    totals = read_totals(path)
    with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
        work = {pool.submit(target.minimize if options.minimize else lambda t=target: t.fuzz(seconds)): target for target in targets}
        for done in concurrent.futures.as_completed(work):
            done.result()
            target = work[done]
            if not options.minimize:
                totals[target.name] = totals.get(target.name, 0) + target.executions
                write_totals(path, totals)
                print(f"{'FAIL' if target.failed else 'ok':4} {target.name}: {target.executions} inputs, {target.rate} a second; "
                      f"so far {totals[target.name]}", flush=True)
    if not options.minimize:
        print(f"{sum(t.executions for t in targets)} inputs; {sum(totals.values())} so far")
    return 1 if any(target.failed for target in targets) else 0


if __name__ == "__main__":
    sys.exit(main())
