"""Goal: the bridge of docs/examples/nats.c survives every NATS, and keeps its promises about loss and order.

NATS is a thread of the test here, which splits and breaks the protocol. tests/ops/test_nats.py has the real one. Every hostile session
must end with the bridge in the next session.
"""

import contextlib
import os
import re
import socket
import struct
import threading
import time
import unittest

from clients import patient
from fake_nats import INFO, ROOM, FakeNats, Member, counts, group_of, msg, subject
from xchgd import LIMIT, PROGRAM, SLOW, receive_all

EXAMPLE = os.path.join(os.path.dirname(os.path.abspath(PROGRAM)), "examples", "nats")
GOOD = b"a good session\n"
MIB = 1 << 20
LARGE = {"XCHG_MAX_MESSAGE": "1MiB", "XCHG_MAX_PENDING": "16MiB"}


def serve(nats, **variables):
    return patient(program=EXAMPLE, NATS_URL=nats if isinstance(nats, str) else nats.url, XCHG_WORKERS=2, **variables)


def connect(nats, server, times=1):
    """Let NATS answer, and wait until the bridge is connected."""
    nats.begin()
    server.wait_for(lambda _: sum(line["state"] == "connected" for line in server.messages("nats")) >= times)


def good(peer):
    peer.greet()
    peer.send(msg(ROOM, GOOD))
    peer.serve()


def begun(peer):
    """A session that the bridge takes for a good one."""
    peer.greet()
    peer.flush()


class Hostile(unittest.TestCase):
    """After each of these the bridge ends the session itself, connects again, and delivers."""

    def survive(self, *sessions):
        with FakeNats(*sessions, good) as nats, serve(nats) as server, Member(server) as member:
            nats.begin()
            self.assertEqual(member.hear(), GOOD)
            nats.wait(len(sessions))
            member.close()
            server.stop()
            return counts(server)

    def test_lines(self):
        """Lines that no NATS sends, before and after the greeting."""
        name = subject(ROOM)
        early = [b"\r\n", b"PONG\r\n", b"HTTP/1.1 400 Bad Request\r\n", b"-ERR 'x'\r\n", b"\n", b"\0" * 100 + b"\r\n", b"INFO\r\n",
                 msg(ROOM, b"early\n"), bytes(range(256)) + b"\n"]
        late = [b"\n", b"\r\n", b"\r\r\n\n", b"msg x 1 0\r\n\r\n", b"HMSG x 1 2 3\r\n", b"MSG \r\n", b"MSG a\r\n", b"MSG  1 -5\r\n", b"INFO {}\n",
                b"MSG %s 1 \r\n" % name, b"MSG %s 1 +1\r\nx\r\n" % name, b"MSG %s 1 0x1\r\nx\r\n" % name, b"MSG %s 1 5 \r\nhello\r\n" % name,
                b"MSG %s 1 9999999999\r\n" % name, b"MSG %s 1 99999999999999999999\r\n" % name, b"MSG %s 1 5\nhello\r\n" % name,
                b"MSG %s 1 5\r\nhelloXX" % name, b"MSG %s 1 4\r\nhello\r\n" % name, b"PONG \r\n", b"PING 1\r\n", b"\0\r\n", b"+ok\r\n"]
        for place, lines in (("early", early), ("late", late)):
            for line in lines:
                def session(peer, line=line, place=place):
                    if place == "late":
                        begun(peer)
                    peer.send(line)
                    peer.drain()
                with self.subTest(place=place, line=line):
                    found = self.survive(session)
                    self.assertEqual((found["received"], found["sessions"]), (1, 1 + (place == "late")))

    def test_ends(self):
        """NATS closes or resets, before and after each step of the greeting."""
        def reset(peer):
            peer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        steps = (lambda peer: None, lambda peer: peer.send(INFO[:20]), lambda peer: peer.send(INFO % MIB), lambda peer: (peer.send(INFO % MIB), peer.hear()),
                 begun, lambda peer: (begun(peer), peer.send(msg(ROOM, b"half")[:-4])))
        for number, step in enumerate(steps):
            with self.subTest(number):
                self.survive(step)
            with self.subTest(number, reset=True):
                self.survive(lambda peer, step=step: (step(peer), reset(peer)))

    def endless(self, peer, data):
        """Send ${data} again and again, until the bridge has had enough."""
        with self.assertRaises(ConnectionError):
            for _ in range(64 * MIB // len(data)):
                peer.send(data)

    def test_endless(self):
        """A line, an INFO, a MSG without an end, and PINGs whose answers no one reads."""
        for head, data in ((b"", b"x" * 65536), (b"INFO {", b"x" * 65536), (b"MSG ", b"x 1" * 20000), (b"", b"PING\r\n" * 10000)):
            for is_late in (False, True):
                def session(peer, head=head, data=data, is_late=is_late):
                    if is_late or data.startswith(b"PING"):
                        begun(peer)
                    peer.send(head)
                    self.endless(peer, data)
                with self.subTest(head=head, data=data[:6], late=is_late):
                    self.survive(session)

    def test_other_values(self):
        """An INFO that is no JSON, or has strange values, is taken. Messages of others and their replies are skipped."""
        for info in (b"INFO \r\n", b"INFO {}\r\n", b'INFO {"max_payload":-1}\r\n', b'INFO {"max_payload":"x","ldm":true}\r\n',
                     b'INFO {"max_payload":99999999999999999999999}\r\n', b"INFO " + b"{" * 30000 + b"\r\n", b'INFO {"max_payload":\r\n'):
            def session(peer, info=info):
                peer.send(info)
                peer.hear()
                name = subject(ROOM)
                peer.send(b"PONG\r\nPONG\r\nPONG\r\n+OK\r\n-ERR 'a\"\\\x1b[2J\xff'\r\n" + info + b"MSG xchg.g.12 1 2\r\nhi\r\nMSG xchg.g." + b"x" * 9000 + b" 1 0\r\n\r\n")
                peer.send(b"MSG %s1 1 2\r\nhi\r\nMSG %s.x 1 2\r\nhi\r\nMSG %s 1 2\r\nhi\r\nMSG x 1 inbox.%s 2\r\nhi\r\n" % (name, name, name.upper(), name))
                peer.send(b"MSG %s 1 %d\r\n" % (name, 3 * MIB) + b"z" * (3 * MIB) + b"\r\n" + msg(ROOM, GOOD, b"_INBOX." + b"y" * 5000))
                peer.serve()
            with self.subTest(info[:40]), FakeNats(session) as nats, serve(nats) as server, Member(server) as member:
                nats.begin()
                self.assertEqual(member.hear(), GOOD)
                member.close()
                server.stop()
                found = counts(server)
                self.assertEqual((found["received"], found["discarded"], found["errors"], found["sessions"]), (1, 7, 1, 1))
                error = next(line for line in server.messages("nats") if line["state"] == "error")
                self.assertEqual(error["reason"], "'a???[2J?'")


class Splits(unittest.TestCase):
    """The bridge does not depend on how the bytes arrive."""

    def test_every_byte(self):
        """The greeting byte by byte, and a transcript in two pieces at each place."""
        text = b"PING\r\n+OK\r\n" + msg(ROOM, b"one\r\n") + b"PONG\r\n" + INFO % MIB + msg(ROOM, b"MSG \r\n", b"reply.to") + b"-ERR 'x'\r\n"

        def session(peer):
            info = INFO % MIB
            peer.send_apart(*(info[at:at + 1] for at in range(len(info))))
            peer.hear()
            peer.send_apart(*(b"%c" % byte for byte in b"PONG\r\n"))
            for at in range(1, len(text)):
                peer.send_apart(text[:at], text[at:])
                peer.expect(rb"PONG\r\n")
            peer.serve()

        with FakeNats(session) as nats, serve(nats) as server, Member(server) as member:
            nats.begin()
            for at in range(1, len(text)):
                self.assertEqual((member.hear(), member.hear()), (b"one\r\n", b"MSG \r\n"), f"in two pieces at {at}")
            member.close()
            server.stop()
            self.assertEqual(counts(server)["received"], 2 * (len(text) - 1))

    def test_large(self):
        """A message of 1 MiB in many pieces, and small ones around it."""
        data = os.urandom(MIB // 2).hex().encode()[:-1] + b"\n"

        def session(peer):
            peer.greet()
            peer.send(msg(ROOM, b"before\n") + msg(ROOM, data) + msg(ROOM, b"after\n"))
            peer.serve()

        with FakeNats(session) as nats, serve(nats, XCHG_MAX_PENDING="4MiB") as server, Member(server) as member:
            nats.begin()
            self.assertEqual([member.hear() for _ in range(3)], [b"before\n", data, b"after\n"])
            member.close()
            server.stop()


class Promises(unittest.TestCase):
    def test_connect(self):
        """What CONNECT and SUB say, with and without a user."""
        for login, expected in (("", b""), ("ada:l0ve%20:", None), ("ada:l0ve%20@", b'"user":"ada","pass":"l0ve%20",')):
            heard = []

            def session(peer, heard=heard):
                heard.append(peer.greet())
                peer.serve()

            with FakeNats(session) as nats:
                url = nats.url.replace("//", f"//{login}")
                if expected is None:
                    self.refuse(NATS_URL=url)
                    continue
                with serve(url, NATS_PREFIX="x-1") as server:
                    connect(nats, server)
            self.assertIn(b'"echo":false,"headers":false,' + expected + b'"protocol":1', heard[0])

    def refuse(self, **variables):
        with patient(program=EXAMPLE, wait=False, **variables) as server:
            self.assertEqual(server.process.wait(LIMIT), 71)
            server.wait_for(lambda lines: any(f"{name} wants" in line for line in lines for name in variables))

    def test_refused(self):
        """Values that cannot be meant are refused at the start."""
        for url in ("", "x", "nats://", "nats://127.0.0.1", "nats://127.0.0.1:", "nats://localhost:4222", "nats://127.0.0.1:99999999",
                    'nats://a":b@127.0.0.1:4222', "nats://a@127.0.0.1:4222", ",", "nats://127.0.0.1:1,", "nats://[::1:4222", "tls://127.0.0.1:4222",
                    ",".join(["nats://127.0.0.1:1"] * 9)):
            with self.subTest(url):
                self.refuse(NATS_URL=url)
        for prefix in ("", "a.b", "x" * 65, "a b", "*"):
            with self.subTest(prefix):
                self.refuse(NATS_PREFIX=prefix)

    def test_publish(self):
        """A publication reaches local members at once and NATS once, in order; one over max_payload reaches neither."""
        found = []

        def session(peer):
            peer.greet(100)
            found.extend(peer.publication() for _ in range(300))
            peer.serve()

        lines = [b"line %d" % number for number in range(300)]
        with FakeNats(session) as nats, serve(nats) as server, Member(server) as one, Member(server) as two, Member(server, b"cellar") as other:
            connect(nats, server)
            one.say(b"x" * 100, *lines)
            self.assertEqual(one.hear(), b"* too long\n")
            for member in (one, two):
                self.assertEqual(member.hear_lines(300), lines)
            other.say(b"x" * 99)
            self.assertEqual(other.hear(), b"x" * 99 + b"\n")
            for member in (one, two, other):
                member.close()
            server.stop()
            self.assertEqual(counts(server)["sent"], 301)
            self.assertEqual(counts(server)["too_long"], 1)
        self.assertEqual(found, [(subject(ROOM), line + b"\n") for line in lines])

    def test_queue(self):
        """Without NATS 4 MiB are kept, and the rest is counted as dropped. Local members miss nothing."""
        line, count = b"x" * 65535, 100
        found = []

        def session(peer):
            peer.greet()
            found.extend(peer.publication() for _ in range(60))
            peer.serve()

        with contextlib.ExitStack() as stack:
            holder = stack.enter_context(socket.socket())  # the port refuses until NATS listens
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", 0))
            nats = FakeNats(session)
            server = stack.enter_context(serve(f"nats://127.0.0.1:{holder.getsockname()[1]},{nats.url}", XCHG_MAX_PENDING="16MiB"))
            member = stack.enter_context(Member(server))
            for number in range(count):
                member.say(line)
                self.assertEqual(len(member.hear()), len(line) + 1, number)
            stack.enter_context(nats)
            connect(nats, server)
            member.close()
            server.stop()
            values = counts(server)
        self.assertEqual(values["sent"] + values["dropped"], count)
        self.assertEqual(values["sent"], 4 * MIB // (len(line) + 100))

    def test_shrunken_payload(self):
        """A queued message that the next NATS would refuse is dropped, those after it are sent."""
        found = []

        def session(peer):
            peer.greet(50)
            found.append(peer.publication())
            peer.serve()

        def refuse(peer):
            peer.send(INFO % MIB)
            peer.hear()
            gate.wait(LIMIT)

        gate = threading.Event()
        with FakeNats(refuse, session) as nats, serve(nats) as server, Member(server) as member:
            member.say(b"x" * 60, b"short")
            nats.begin()
            self.assertEqual(member.hear_lines(2), [b"x" * 60, b"short"])
            gate.set()
            connect(nats, server)
            member.close()
            server.stop()
            self.assertEqual((counts(server)["sent"], counts(server)["too_long"]), (1, 1))
        self.assertEqual(found, [(subject(ROOM), b"short\n")])

    def test_shrunken_while_sent(self):
        """A smaller max_payload does not cut a message of which a part is sent; those after it are dropped."""
        found, size, count = [], 500000, 8

        def session(peer):
            peer.greet()
            gate.wait(LIMIT)
            peer.send(INFO % 10 + b"-ERR 'seen'\r\nPING\r\n")
            server.wait_for(lambda _: any(line["state"] == "error" for line in server.messages("nats")))
            while (line := peer.line()).startswith(b"PUB "):
                found.append(peer.file.read(int(line.split()[2]) + 2))
            self.assertEqual(line, b"PONG\r\n")
            answered.set()
            peer.serve()

        gate, answered = threading.Event(), threading.Event()
        with FakeNats(session, receive_bytes=4096) as nats, serve(nats, **LARGE) as server, Member(server) as member:
            connect(nats, server)
            for number in range(count):
                member.say(b"%d" % number * size)
                self.assertEqual(member.hear(), b"%d" % number * size + b"\n")
            gate.set()
            answered.wait(LIMIT)
            member.close()
            server.stop()
            values = counts(server)
        self.assertEqual(values["sent"] + values["too_long"], count)
        self.assertEqual(found, [b"%d" % number * size + b"\n\r\n" for number in range(values["sent"])])

    def test_half_sent(self):
        """Messages that were not sent when the connection broke are sent then; the one of which a part was sent, as a whole."""
        found, size, count = [], 500000, 8

        def half(peer):
            peer.greet()
            peer.file.read(100)
            gate.wait(LIMIT)

        def session(peer):
            peer.greet()
            while not found or found[-1][:1] != b"%d" % (count - 1):
                found.append(peer.publication()[1])
            peer.serve()

        gate = threading.Event()
        with FakeNats(half, session, receive_bytes=4096) as nats, serve(nats, **LARGE) as server, Member(server) as member:
            connect(nats, server)
            for number in range(count):
                member.say(b"%d" % number * size)
                self.assertEqual(member.hear(), b"%d" % number * size + b"\n")
            gate.set()
            connect(nats, server, 2)
            member.close()
            server.stop()
            self.assertEqual(counts(server)["sent"], count)
        self.assertEqual(found, [b"%d" % number * size + b"\n" for number in range(count - len(found), count)])

    def test_stop_sends_the_rest(self):
        """What is queued at the stop is sent. Then the bridge asks with a PING whether NATS has it, and leaves at the answer."""
        found = []

        def session(peer):
            peer.greet()
            found.extend(peer.publication()[1] for _ in range(200))
            peer.expect(rb"PING\r\n")
            peer.flush()  # the bridge is still there
            peer.send(b"PONG\r\n")
            peer.expect(rb"")

        with FakeNats(session) as nats, serve(nats) as server, Member(server) as member:
            connect(nats, server)
            member.say(*[b"%d" % number for number in range(200)])
            member.socket.shutdown(socket.SHUT_WR)
            server.stop()
            receive_all(member.socket)
            self.assertEqual(counts(server)["sent"], 200)
            self.assertEqual(server.messages("nats")[-1]["queued_bytes"], "0")
        self.assertEqual(found, [b"%d\n" % number for number in range(200)])

    def test_prompt_stop(self):
        """The bridge ends within a second while it connects, while NATS is silent, and while NATS reads nothing."""
        full = socket.socket()
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        held = []
        for _ in range(8):  # until the queue is full, so that a further connect waits
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(full.getsockname())
            held.append(client)
        self.addCleanup(lambda: [each.close() for each in (*held, full)])

        def silent(peer):
            peer.drain()

        def deaf(peer):
            peer.greet()
            gate.wait(2 * LIMIT)

        for name, session in (("connecting", None), ("silent", silent), ("deaf", deaf)):
            gate = threading.Event()
            with self.subTest(name), FakeNats(session or silent, receive_bytes=4096) as nats:
                nats.begin()
                url = nats.url if session else f"nats://127.0.0.1:{full.getsockname()[1]}"
                with serve(url, **LARGE) as server, Member(server) as member:
                    if name == "deaf":
                        connect(nats, server)
                    for _ in range(8):
                        member.say(b"z" * 500000)
                        self.assertEqual(len(member.hear()), 500001)
                    member.close()
                    before = time.monotonic()
                    server.stop()
                    took = time.monotonic() - before
                gate.set()
                self.assertLess(took, 1.5 + SLOW)
                self.assertLessEqual(int(server.messages("nats")[-1]["queued_bytes"]), 4 * MIB)
                self.assertLess(counts(server)["sent"], 8)

    def test_no_answer(self):
        """A NATS that accepts and says nothing is left after five seconds, not earlier."""
        with FakeNats(lambda peer: peer.drain(), good) as nats, serve(nats) as server, Member(server) as member:
            before = time.monotonic()
            nats.begin()
            self.assertEqual(member.hear(), GOOD)
            self.assertGreater(time.monotonic() - before, 4)
            self.assertEqual([line["reason"] for line in server.messages("nats") if line["state"] == "waiting"], ["it does not answer"])
            member.close()
            server.stop()

    def test_back_off(self):
        """After a loss the bridge waits, longer each time: the fifth connection comes after 1.1 s or more."""
        with FakeNats(lambda peer: None) as nats, serve(nats) as server:
            nats.begin()
            before = time.monotonic()
            nats.wait(4)
            took = time.monotonic() - before
            server.stop()
        self.assertGreater(took, 1.0)
        self.assertEqual(group_of(b""), 0xCBF29CE484222325)
        self.assertIsNone(re.search("connected", "\n".join(line for line in server.lines if "msg=nats" in line)))


if __name__ == "__main__":
    unittest.main()
