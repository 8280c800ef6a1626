"""Goal: nothing is left after many connections, and rude clients are counted right. Also a few seconds of
tests/soak."""

import collections
import concurrent.futures
import contextlib
import random
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import unittest

from clients import INSTRUMENTED, MIB, ended, patient, serve
from xchgd import GREETING, LIMIT, SLOW, TOP, receive_all, receive_exactly, reset

SOAK = os.path.join(TOP, "tests", "soak")
sys.path.append(SOAK)
from judge import judge  # noqa: E402
from load import MAX_MESSAGE, Count, Stream  # noqa: E402

SOURCES = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
THREADS = 8


def in_threads(work, count):
    """Run work(0) ... work(count - 1) in a few threads and raise the first exception."""
    def share(first):
        for i in range(first, count, THREADS):
            work(i)
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for job in [pool.submit(share, first) for first in range(THREADS)]:
            job.result()


class Soak(unittest.TestCase):
    def test_twenty_thousand(self):
        """20,000 greet exchanges leave descriptors and resident memory unchanged."""
        warm, count = (200, 1000) if INSTRUMENTED else (2000, 18000)
        with patient() as server:
            def exchange(i):
                with server.connect(source=SOURCES[i % len(SOURCES)]) as client:
                    client.sendall(b"hello\0")
                    if receive_all(client) != GREETING:
                        raise AssertionError("another greeting")

            def quiet():
                server.wait_stats(lambda values: values["open"] == 0)
                return server.descriptors(), server.resident_bytes()
            in_threads(exchange, warm)
            descriptors, resident = quiet()
            in_threads(exchange, count)
            descriptors_after, resident_after = quiet()
            self.assertEqual(descriptors_after, descriptors)
            if not INSTRUMENTED:
                self.assertLess(resident_after - resident, MIB)
            self.assertEqual(ended(server.stop()), {"finished": warm + count})

    def test_ten_thousand_at_once(self):
        """10,000 connections at once are answered, take less than 8 MiB while idle, and end by the client or by the
        stop."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        count = min(1000 if INSTRUMENTED else 10000, hard - 300)
        with patient(XCHG_EXCHANGE="echo") as server, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.connect(source=SOURCES[i % len(SOURCES)]))
                       for i in range(count)]
            for said in ("here %d", "and still here %d"):
                messages = [(said % i).encode() for i in range(count)]
                for client, message in zip(clients, messages):
                    client.sendall(message)
                for client, message in zip(clients, messages):
                    self.assertEqual(receive_exactly(client, len(message)), message)
                self.assertEqual(ended(server.stats()), {"open": count})
                if not INSTRUMENTED:  # the workers give memory back once they are idle
                    server.wait_stats(lambda values: server.resident_bytes() < 8 * MIB, "8 MiB at 10,000 clients")
            first = clients[:count // 2]
            for client in first:
                client.shutdown(socket.SHUT_WR)
            for client in first:
                self.assertEqual(receive_all(client), b"")
            server.process.send_signal(signal.SIGTERM)
            for client in clients[count // 2:]:
                self.assertEqual(receive_all(client), b"")
                client.close()
            self.assertEqual(ended(server.finish()), {"finished": count})


class Rude(Stream):
    """The soak's clients that need no timeout but the message's, and some more."""

    def __init__(self, server):
        super().__init__(server, Count(), "u32")
        self.weights = dict.fromkeys(("polite", "pipelined", "half_closing", "dribbling", "garbage", "truncated", "resetting", "silent"), 8)
        self.weights |= {"unfinished": 1, "leaving": 1}

    def dribbling(self, chance):
        with self.talk() as talk:
            stream = self.message(chance, 30)
            talk.exchange([stream[i:i + 1] for i in range(len(stream))], stream, half_close=True)
            talk.end()
        return ["finished"]

    def leaving(self, chance):
        """Send without reading until nothing is taken, then reset."""
        with self.talk() as talk:
            talk.pour(self.message(chance) * 10)
            reset(talk.client)
        return ["reset"]

    def silent(self, _):
        self.connect().close()
        return ["finished"]


class RudeLoad(unittest.TestCase):
    def check(self, count, seed=1, **variables):
        """Each client gets its replies and is counted for what it did, whatever the others do."""
        with serve(XCHG_FRAME="u32", XCHG_GREETING="none", XCHG_REPLY="echo", XCHG_MESSAGES=0, XCHG_MAX_MESSAGE=MAX_MESSAGE,
                   XCHG_MAX_PENDING="16KiB", XCHG_LINGER="1m", XCHG_WRITE_TIMEOUT=0, XCHG_IDLE_TIMEOUT=0, **variables) as server:
            server.connections = 0
            expected = collections.Counter()
            counting = threading.Lock()
            rude = Rude(server)

            def work(i):
                _, reasons = rude.run(random.Random(f"{seed} {i}"))
                with counting:
                    expected.update(reasons)
            in_threads(work, count)
            values = server.wait_stats(lambda values: values["accepted"] == count and values["open"] == 0)
            self.assertEqual(ended(values), dict(expected))
            self.assertEqual(server.stop()["accepted"], count)

    def test_rude_load(self):
        """The totals of 2,000 rude clients match, reason by reason."""
        self.check(200 if INSTRUMENTED else 2000, XCHG_MESSAGE_TIMEOUT=f"{int(1500 * SLOW)}ms")

    def test_rude_load_of_models(self):
        """The same for a few hundred clients under fork and thread."""
        for model in ("fork", "thread"):
            with self.subTest(model):
                self.check(100 if INSTRUMENTED else 500, seed=model, XCHG_MODEL=model,
                           XCHG_MESSAGE_TIMEOUT=f"{int(1500 * SLOW)}ms")


class Long(unittest.TestCase):
    """Goal: `make soak` works, and its judgement of memory is right."""

    def test_few_seconds(self):
        """A mixed load with changing faults: every byte is right, and the counters add up."""
        seconds = 5 if not INSTRUMENTED else 8
        ran = subprocess.run([sys.executable, "-B", os.path.join(SOAK, "soak.py"), "--seconds", str(seconds)], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds + 8 * LIMIT)
        self.assertEqual(ran.returncode, 0, ran.stdout)
        self.assertRegex(ran.stdout, r"(?m)^soak: SEED=\d+$")

    def samples(self, seconds, growth, seed):
        """Realistic samples of resident memory: a level, noise, peaks, and ${growth} bytes a second."""
        chance, noise, values = random.Random(seed), 0.0, []
        for i in range(seconds):
            noise = 0.7 * noise + chance.gauss(0, 60 * 1024)
            values.append(3 * MIB + noise + growth * i + (MIB if chance.random() < 0.02 else 0))
        return list(range(seconds)), values

    def test_flat(self):
        """Samples that only jitter are flat, over ten minutes and over an hour."""
        for seed in range(20):
            with self.subTest(seed):
                self.assertTrue(judge(*self.samples(600, 0, seed)).flat)
                self.assertTrue(judge(*self.samples(3600, 0, seed)).flat)

    def test_growth(self):
        """A growth of 2 KiB a second is found in ten minutes, 1 KiB a second in an hour, and a late step, too."""
        for seed in range(20):
            with self.subTest(seed):
                self.assertFalse(judge(*self.samples(600, 2048, seed)).flat)
                self.assertFalse(judge(*self.samples(3600, 1024, seed)).flat)
                times, values = self.samples(3600, 0, seed)
                stepped = [value + (MIB if i > 2900 else 0) for i, value in enumerate(values)]
                self.assertFalse(judge(times, stepped).flat)

    def test_too_few(self):
        """One minute is too short for a judgement."""
        self.assertIsNone(judge(*self.samples(60, 0, 1)))
