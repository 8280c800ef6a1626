"""Goal: rooms of docs/examples/nats.c span servers over a real nats-server, which stops, restarts, retires and refuses.

Two xchgd load the plug-in. Members on both say lines; each line must reach each member once, in the order of its speaker. A NATS that
breaks the protocol is in tests/live/test_nats.py.
With OPS_LONG=1, as `make check-network` sets it, the tests run that wait for more than a minute.
"""

import contextlib
import os
import signal
import socket
import tempfile
import threading
import time
import unittest

from ops import BUILD, LIMIT, Server, log_path, program, reserved_port, wait_until

from fake_nats import ROOM, FakeNats, Member, counts

PLUGIN = os.path.join(BUILD, "examples", "nats.so")
MIB = 1 << 20
LINES = 500
LARGE = {"XCHG_MAX_MESSAGE": "2MiB", "XCHG_MAX_PENDING": "8MiB"}


class Nats:
    """A nats-server on a port of its own, which can be restarted there. ${config}: further lines of its configuration."""

    def __init__(self, name="nats", config=""):
        self.port, self.name, self.stack = reserved_port(), name, contextlib.ExitStack()
        self.folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.config, self.pid_path = os.path.join(self.folder, "nats.conf"), os.path.join(self.folder, "nats.pid")
        with open(self.config, "w") as out:
            out.write(f'listen: 127.0.0.1:{self.port}\npid_file: "{self.pid_path}"\n{config}\n')
        self.running = None

    def start(self):
        self.running = contextlib.ExitStack()
        self.running.enter_context(program("nats-server", "-c", self.config, log=f"{self.name}.log"))
        wait_until(self.is_listening, "nats-server listens")

    def is_listening(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def pid(self):
        with open(self.pid_path) as stream:
            return int(stream.read())

    def log(self):
        with open(log_path(f"{self.name}.log")) as stream:
            return stream.read()

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid(), signal.SIGCONT)
        self.running.close()

    def url(self, login=""):
        return f"nats://{login}127.0.0.1:{self.port}"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        self.stop()
        self.stack.close()


class Wire:
    """A TCP port in front of NATS that can be cut: then each connection ends, and new ones are closed at once."""

    def __init__(self, port):
        self.port, self.open, self.pairs, self.lock = port, True, [], threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"nats://127.0.0.1:{self.listener.getsockname()[1]}"

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                with self.lock:
                    if not self.open:
                        client.close()
                        continue
                    server = socket.create_connection(("127.0.0.1", self.port), LIMIT)
                    self.pairs.append((client, server))
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        with self.lock:
            self.open = False
            for end in sum(self.pairs, ()):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def mend(self):
        with self.lock:
            self.open = True

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.cut()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for end in sum(self.pairs, ()):
            end.close()


def states(server, state):
    return sum(line["state"] == state for line in server.messages("nats"))


def wait_connected(*servers, times=1):
    for server in servers:
        server.wait_for(lambda _, server=server: states(server, "connected") >= times, f"connection {times} to NATS")


class Bridge(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def serve(self, url, **variables):
        return self.stack.enter_context(Server(XCHG_HANDLER=PLUGIN, NATS_URL=url, XCHG_WORKERS="2", XCHG_STOP_GRACE="0", **variables))

    def nats(self, **options):
        return self.stack.enter_context(Nats(**options))

    def member(self, server, **options):
        return self.stack.enter_context(Member(server, **options))

    def together(self, one, two, members=2, **variables):
        """Two servers, and members on each."""
        servers = [self.serve(url, **variables) for url in (one, two)]
        wait_connected(*servers)
        return *servers, *([self.member(server) for _ in range(members)] for server in servers)

    def wait_subscribed(self, here, there):
        """Until a line of one member reaches the other, in both directions: the subscriptions are known everywhere."""
        for number, (speaker, listener) in enumerate(((here, there), (there, here))):
            token = b"subscribed %d" % number
            listener.socket.settimeout(0.2)
            deadline = time.monotonic() + LIMIT
            while True:
                self.assertLess(time.monotonic(), deadline, "the members do not reach each other")
                speaker.say(token)
                try:
                    if listener.hear() == token + b"\n":
                        break
                except TimeoutError:
                    listener.file = listener.socket.makefile("rb")  # one that has timed out cannot be read
            listener.socket.settimeout(LIMIT)

    def stop(self, *servers):
        """The counts of the servers' bridges. Members have left."""
        self.assertEqual([server.process.poll() for server in servers], [None] * len(servers))
        for server in servers:
            server.stop()
        return [counts(server) for server in servers]

    def leave(self, *groups):
        for member in sum(groups, []):
            member.close()


class Delivery(Bridge):
    def test_once_in_order(self):
        """500 lines from either side at once reach every member of both servers once, each speaker's in order."""
        nats = self.nats()
        a, b, at_a, at_b = self.together(nats.url(), nats.url(), XCHG_MAX_PENDING="4MiB")
        stranger = self.member(b, room=b"cellar")
        speakers = {b"a": at_a[0], b"b": at_b[0]}
        threads = [threading.Thread(target=speaker.say, args=[b"%s %d" % (name, number) for number in range(LINES)])
                   for name, speaker in speakers.items()]
        for thread in threads:
            thread.start()
        for member in at_a + at_b:
            heard = member.hear_lines(2 * LINES)
            for name in speakers:
                self.assertEqual([line for line in heard if line.startswith(name)], [b"%s %d" % (name, number) for number in range(LINES)])
        for thread in threads:
            thread.join()
        for member in at_a + at_b:  # and nothing more
            speakers[b"a"].say(b"last")
            break
        for member in at_a + at_b:
            self.assertEqual(member.hear(), b"last\n")
        stranger.say(b"alone")
        self.assertEqual(stranger.hear(), b"alone\n")
        self.leave(at_a, at_b, [stranger])
        one, two = self.stop(a, b)
        self.assertEqual((one["sent"], one["received"], two["sent"], two["received"]), (LINES + 1, LINES + 1, LINES + 1, LINES + 1))
        self.assertEqual([each[key] for each in (one, two) for key in ("dropped", "discarded", "errors", "too_long")], [0] * 8)

    def test_sizes(self):
        """1 MiB arrives whole on the other side; one byte more is refused on this one."""
        nats = self.nats()
        a, b, (here,), (there,) = self.together(nats.url(), nats.url(), members=1, **LARGE)
        for size, arrives in ((MIB, True), (MIB + 1, False), (10, True)):
            line = os.urandom(size // 2 + 1).hex().encode()[:size - 1]
            here.say(line)
            if arrives:
                self.assertEqual((here.hear(), there.hear()), (line + b"\n", line + b"\n"))
            else:
                self.assertEqual(here.hear(), b"* too long\n")
        self.leave([here, there])
        one, two = self.stop(a, b)
        self.assertEqual((one["too_long"], one["sent"], two["received"], one["sessions"]), (1, 2, 2, 1))

    def test_smaller_payload(self):
        """max_payload of the server counts, not a constant of the bridge."""
        nats = self.nats(config="max_payload: 1000")
        a, b, (here,), (there,) = self.together(nats.url(), nats.url(), members=1)
        here.say(b"x" * 1000, b"y" * 999)
        self.assertEqual((here.hear(), here.hear(), there.hear()), (b"* too long\n", b"y" * 999 + b"\n", b"y" * 999 + b"\n"))
        self.leave([here, there])
        self.assertEqual([each["sessions"] for each in self.stop(a, b)], [1, 1])

    def test_slow_member(self):
        """A member that does not read is closed; neither the others on its server nor NATS wait for it."""
        nats = self.nats()
        a, b, (here,), (there,) = self.together(nats.url(), nats.url(), members=1, XCHG_MAX_PENDING="64KiB", XCHG_SNDBUF="4KiB")
        slow = self.member(b, rcvbuf=2048)
        for number in range(200):
            line = b"%d " % number + b"z" * 5000
            here.say(line)
            self.assertEqual((here.hear(), there.hear()), (line + b"\n", line + b"\n"))
        b.wait_stats(lambda stats: stats["closed_write"] == 1)
        self.leave([here, there, slow])
        one, two = self.stop(a, b)
        self.assertEqual((two["received"], two["sessions"], two["discarded"], one["sent"]), (200, 1, 0, 200))


class Outages(Bridge):
    def test_stop_and_start(self):
        """Without NATS, local members go on. When it is back, what arrives of the queued lines arrives once, in order: the other server
        misses those that come before it is back, too."""
        nats = self.nats()
        a, b, at_a, at_b = self.together(nats.url(), nats.url(), members=1)
        (here,), (there,) = at_a, at_b
        nats.stop()
        for server in (a, b):
            server.wait_for(lambda _, server=server: states(server, "waiting") == 1)
        lines = [b"outage %d" % number for number in range(100)]
        here.say(*lines)
        self.assertEqual(here.hear_lines(100), lines)
        nats.start()
        wait_connected(b, times=2)
        wait_connected(a, times=2)
        # Those that A sent before B had subscribed are lost; the others arrive in order.
        here.say(b"back")
        heard = []
        while not heard or heard[-1] != b"back":
            heard += there.hear_lines(1)
        self.assertEqual(heard, (lines + [b"back"])[101 - len(heard):])
        there.say(b"answer")
        self.assertEqual((here.hear(), here.hear(), there.hear()), (b"back\n", b"answer\n", b"answer\n"))
        self.leave(at_a, at_b)
        one, two = self.stop(a, b)
        self.assertEqual((one["sent"], one["dropped"], one["sessions"], two["sessions"]), (101, 0, 2, 2))
        with open(log_path("nats-outage.txt"), "w") as out:
            print(f"nats-server restarted: 100 lines said meanwhile, {len(heard) - 1} arrived on the other server", file=out)

    def test_lost_connection(self):
        """Only one server loses NATS: all lines that its members say meanwhile arrive on the other one, once and in order."""
        nats = self.nats()
        wire = self.stack.enter_context(Wire(nats.port))
        a, b, at_a, at_b = self.together(wire.url, nats.url(), members=1)
        (here,), (there,) = at_a, at_b
        wire.cut()
        a.wait_for(lambda _: states(a, "waiting") == 1)
        lines = [b"cut off %d" % number for number in range(300)]
        here.say(*lines)
        self.assertEqual(here.hear_lines(300), lines)
        there.say(b"missed")
        self.assertEqual(there.hear(), b"missed\n")
        wire.mend()
        wait_connected(a, times=2)
        self.assertEqual(there.hear_lines(300), lines)
        there.say(b"answer")
        self.assertEqual((here.hear(), there.hear()), (b"answer\n", b"answer\n"))
        self.leave(at_a, at_b)
        self.assertEqual([each["sent"] for each in self.stop(a, b)], [300, 2])

    def test_start_without(self):
        """The server starts, serves and is ready without NATS; it joins when NATS comes."""
        nats = Nats()
        self.addCleanup(nats.stack.close)
        a, b = self.serve(nats.url()), self.serve(nats.url())
        here, there = self.member(a), self.member(b)
        here.say(b"alone")
        self.assertEqual(here.hear(), b"alone\n")
        nats.start()
        self.addCleanup(nats.stop)
        wait_connected(a, b)
        there.say(b"together")
        heard = here.hear()
        self.assertEqual(heard, b"together\n")
        self.leave([here, there])
        self.stop(a, b)

    def test_lame_duck(self):
        """A cluster of two; the first retires by --signal ldm. Its bridge goes to the second within a second, and loses nothing that it sends."""
        ports = [reserved_port(), reserved_port()]
        pair = [self.nats(name=f"nats-{number}", config='cluster { name: rooms, listen: "127.0.0.1:%d", routes: ["nats://127.0.0.1:%d"] }'
                          '\nlame_duck_duration: "30s"\nlame_duck_grace_period: "5s"' % (ports[number], ports[1 - number])) for number in range(2)]
        urls = [nats.url() for nats in pair]
        a, b, at_a, at_b = self.together(f"{urls[0]},{urls[1]}", urls[1], members=1)
        (here,), (there,) = at_a, at_b
        self.wait_subscribed(here, there)
        before = time.monotonic()
        with program("nats-server", "--signal", f"ldm={pair[0].pid()}", log="nats-signal.log") as process:
            self.assertEqual(process.wait(LIMIT), 0)
        said = 0
        while states(a, "connected") < 2:  # say while it moves
            self.assertLess(time.monotonic() - before, LIMIT, "the bridge stays")
            here.say(b"moving %d" % said)
            said += 1
            while not here.hear().startswith(b"moving"):
                pass
        took = time.monotonic() - before
        here.say(b"moved")
        heard = []
        while not heard or heard[-1] != b"moved":
            heard += [line for line in there.hear_lines(1) if line.startswith(b"mov")]
        self.assertEqual(heard, [b"moving %d" % number for number in range(said)] + [b"moved"])
        line = [line for line in a.messages("nats") if line["state"] == "connected"][1]
        self.assertEqual(line["hub"], f"127.0.0.1:{pair[1].port}")
        with open(log_path("nats-lame-duck.txt"), "w") as out:
            print(f"lame duck: the bridge was in the other nats-server after {took:.2f} s, {said} lines said meanwhile, all arrived", file=out)
        self.assertLess(took, LIMIT)
        self.leave(at_a, at_b)
        one, _ = self.stop(a, b)
        self.assertEqual(one["sessions"], 2)

    def test_credentials(self):
        """Wrong credentials: one line of the log, the server serves. Right ones: connected."""
        nats = self.nats(config='authorization { user: ada, password: "s3cret" }')
        refused, right = self.serve(nats.url("ada:wrong@")), self.serve(nats.url("ada:s3cret@"))
        wait_connected(right)
        refused.wait_for(lambda _: states(refused, "error") == 1)
        member = self.member(refused)
        member.say(b"local")
        self.assertEqual(member.hear(), b"local\n")
        wait_until(lambda: "authentication error" in nats.log(), "nats-server refuses")
        self.leave([member])
        one, _ = self.stop(refused, right)
        self.assertEqual(one["sessions"], 0)
        errors = [line["reason"] for line in refused.messages("nats") if line["state"] == "error"]
        self.assertEqual(errors, ["'Authorization Violation'"])

    def test_stopped_process(self):
        """While NATS is stopped by a signal, publishing goes on; when it continues, everything arrives."""
        nats = self.nats()
        a, b, at_a, at_b = self.together(nats.url(), nats.url(), members=1)
        (here,), (there,) = at_a, at_b
        os.kill(nats.pid(), signal.SIGSTOP)
        lines = [b"%d " % number + b"y" * 10000 for number in range(300)]
        for line in lines:
            here.say(line)
            self.assertEqual(here.hear(), line + b"\n")
        os.kill(nats.pid(), signal.SIGCONT)
        self.assertEqual(there.hear_lines(300), lines)
        self.leave(at_a, at_b)
        self.assertEqual(self.stop(a, b)[0]["dropped"], 0)


@unittest.skipUnless(os.environ.get("OPS_LONG"), "waits for more than a minute: make check-network")
class Long(Bridge):
    def test_silence_and_minutes(self):
        """A NATS that answers no PING is left after two of them. The counts are logged each minute, -ERR once a minute."""
        def silent(peer):
            peer.connection.settimeout(90)
            peer.greet()
            while peer.line():
                peer.send(b"-ERR 'again'\r\n")  # to the PINGs after 20 and 40 s

        with FakeNats(silent) as nats:
            server = self.serve(nats.url)
            nats.begin()
            before = time.monotonic()
            wait_until(lambda: states(server, "waiting") == 1, "the bridge leaves", limit=100)
            self.assertGreater(time.monotonic() - before, 59)
            reason = next(line["reason"] for line in server.messages("nats") if line["state"] == "waiting")
            self.assertEqual(reason, "it answers no PING")
            # Two lines tell that it is connected, two are those of the minutes.
            wait_until(lambda: sum(line["level"] == "info" for line in server.messages("nats")) >= 4, "the line of the second minute", limit=100)
            self.assertGreater(time.monotonic() - before, 119)
            (found,) = self.stop(server)
            self.assertEqual((found["errors"], states(server, "error")), (5, 2))  # the fifth answers the PING of the stop

    def test_many_restarts(self):
        """Twenty restarts of NATS under lines from both sides: each speaker's lines arrive in order, none twice."""
        nats = self.nats()
        a, b, at_a, at_b = self.together(nats.url(), nats.url(), members=1, XCHG_MAX_PENDING="16MiB")
        (here,), (there,) = at_a, at_b
        over, said, heard = threading.Event(), [0], []

        def speak():
            while not over.is_set():
                here.say(b"%d" % said[0])
                said[0] += 1
                over.wait(0.002)

        def listen():
            with contextlib.suppress(OSError, ValueError):
                while line := there.hear():
                    heard.append(int(line))

        threads = [threading.Thread(target=speak), threading.Thread(target=listen)]
        for thread in threads:
            thread.start()
        for number in range(20):
            nats.stop()
            nats.start()
            wait_connected(a, b, times=number + 2)
        over.set()
        threads[0].join()
        wait_until(lambda: heard and heard[-1] == said[0] - 1, "the last line")
        self.leave(at_a)
        there.socket.shutdown(socket.SHUT_RDWR)
        threads[1].join()
        self.assertEqual(heard, sorted(set(heard)))
        with open(log_path("nats-restarts.txt"), "w") as out:
            print(f"20 restarts of nats-server: {said[0]} lines said, {len(heard)} arrived on the other server, none twice, in order", file=out)
        self.leave(at_b)
        self.stop(a, b)


if __name__ == "__main__":
    unittest.main()
