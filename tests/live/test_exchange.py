"""Goal: the exchange works as docs/reference.md, Wire protocol, says: presets, framings, replies, ends, limits."""

import random
import socket
import struct

from clients import MIB, PATIENT, ended, every_split, patient, play, talk, wait_acknowledged, wait_read
from fault_matrix import FaultTest, covers_fault
from xchgd import GREETING, receive_all, receive_exactly

# Messages with difficult contents for each framing: nothing, NUL, LF, CR, bytes of its own prefix.
FRAMES = {
    "nul": [b"", b"a", b"b\r\nc"],
    "line": [b"", b"\0", b"b\rc\0"],
    "u16": [b"", b"\0\n", b"\0\3abc"],
    "u32": [b"", b"\n\0\0", b"ab"],
    "fixed:3": [b"\0\n\r", b"abc", b"\0\0\0"],
}


def frame(kind, message):
    """A message as it is framed on the wire."""
    if kind == "nul":
        return message + b"\0"
    if kind == "line":
        return message + b"\n"
    if kind == "u16":
        return struct.pack(">H", len(message)) + message
    if kind == "u32":
        return struct.pack(">I", len(message)) + message
    return message


def frames(kind, messages):
    return b"".join(frame(kind, message) for message in messages)


class Case(FaultTest):
    def assert_all(self, answers, expected, streams):
        """Every answer is ${expected}. A failure names the first wrong stream."""
        for answer, pieces in zip(answers, streams, strict=True):
            self.assertEqual(answer, expected, f"sent in the pieces {pieces!r:.300}")

    def check_streams(self, variables, data, expected, end, half_close, pairs=True):
        """A stream gets the expected answer in every split, and every connection ends for the same reason."""
        streams = every_split(data, pairs)
        with self.subTest(**variables, data=data), patient(**variables) as server:
            self.assert_all(play(server, streams, half_close), expected, streams)
            self.assertEqual(ended(server.stop()), {end: len(streams)})


class Presets(Case):
    def test_greet(self):
        """The default exchange sends 20 bytes first, takes one message and closes."""
        for variables in ({}, {"XCHG_EXCHANGE": "greet"}, {"XCHG_EXCHANGE": "GREET"}, {"XCHG_EXCHANGE": ""}):
            with self.subTest(variables), patient(**variables) as server, server.connect() as client:
                self.assertEqual(receive_exactly(client, 20), GREETING)
                client.sendall(b"hello\0")
                self.assertEqual(receive_all(client), b"")
                self.assertEqual(ended(server.stop()), {"finished": 1})

    def test_line(self):
        """line echoes one input line with its terminator and closes."""
        with patient(XCHG_EXCHANGE="line") as server:
            for text in (b"hello\n", b"hello\r\n", b"\n", b"a\0b\n"):
                with server.connect() as client:
                    client.sendall(text)
                    self.assertEqual(receive_all(client), text)
            with server.connect() as client:
                self.assertEqual(talk(client, b"no end"), b"no end")
            self.assertEqual(ended(server.stop()), {"finished": 5})

    def test_echo(self):
        """echo returns a stream piece by piece until the client ends it."""
        data = random.Random(1).randbytes(3 * MIB)
        with patient(XCHG_EXCHANGE="echo") as server:
            with server.connect() as client:
                for size in (1, 2, 1000, 65536):
                    client.sendall(data[:size])
                    self.assertEqual(receive_exactly(client, size), data[:size])
                self.assertEqual(talk(client, data), data)
            self.assertEqual(ended(server.stop()), {"finished": 1})

    def test_discard(self):
        """discard takes everything, sends nothing and ends when the client does."""
        with patient(XCHG_EXCHANGE="discard") as server:
            with server.connect() as client:
                self.assertEqual(talk(client, b"\0\n" * MIB), b"")
            self.assertEqual(ended(server.stop()), {"finished": 1})

    def test_overrides(self):
        """Each of the five values overrides its preset and leaves the others unchanged."""
        greet, two = GREETING, b"ab\0cd\0"
        for variables, sent, expected in (
                ({"XCHG_GREETING": "none"}, two, b""),
                ({"XCHG_GREETING": "hi"}, two, b"hi\0"),
                ({"XCHG_REPLY": "echo"}, two, greet + b"ab\0"),
                ({"XCHG_REPLY": "text:yes"}, two, greet + b"yes\0"),
                ({"XCHG_MESSAGES": 2, "XCHG_REPLY": "echo"}, two, greet + two),
                ({"XCHG_FRAME": "line"}, b"ab\n", GREETING[:-1] + b"\n"),
                ({"XCHG_FRAME": "u16"}, b"\0\1x", b"\0\x13" + GREETING[:-1]),
                ({"XCHG_FRAME": "u32"}, b"\0\0\0\1x", b"\0\0\0\x13" + GREETING[:-1]),
                ({"XCHG_FRAME": "fixed:19"}, b"x" * 19, GREETING[:-1]),
                ({"XCHG_FRAME": "raw"}, b"x", GREETING[:-1]),
                ({"XCHG_EXCHANGE": "line", "XCHG_MESSAGES": 2}, b"a\nb\nc\n", b"a\nb\n"),
                ({"XCHG_EXCHANGE": "line", "XCHG_REPLY": "none"}, b"a\n", b""),
                ({"XCHG_EXCHANGE": "echo", "XCHG_FRAME": "nul", "XCHG_MESSAGES": 1}, two, b"ab\0"),
                ({"XCHG_EXCHANGE": "discard", "XCHG_REPLY": "echo", "XCHG_GREETING": "text:none"},
                 two, b"none" + two)):
            with self.subTest(variables), patient(**variables) as server:
                with server.connect() as client:
                    self.assertEqual(talk(client, sent), expected)
                self.assertEqual(ended(server.stop()), {"finished": 1})

    def test_models(self):
        """Each preset does the same under every model."""
        for model in ("pool", "iterative", "fork", "thread"):
            for preset, sent, expected in (("greet", b"a\0", GREETING), ("line", b"a\n", b"a\n"),
                                           ("echo", b"a\0\n", b"a\0\n"), ("discard", b"a\n", b"")):
                with self.subTest(model=model, preset=preset):
                    with patient(XCHG_MODEL=model, XCHG_EXCHANGE=preset) as server:
                        for _ in range(3):
                            with server.connect() as client:
                                self.assertEqual(talk(client, sent), expected)
                        totals = server.stop()
                        self.assertEqual(ended(totals), {"finished": 3})
                        if preset in ("greet", "line"):
                            self.assertEqual(totals["messages"], 3)


class Framings(Case):
    def check_framing(self, kind, *, reply, greeting, messages):
        """Three messages of a framing, split at every pair of places."""
        text = b"yes"
        answer = {"echo": FRAMES[kind], "none": [], "text:yes": [text] * 3}[reply]
        expected = frames(kind, ([b"hey"] if greeting == "hey" else []) + answer)
        variables = {"XCHG_FRAME": kind, "XCHG_REPLY": reply, "XCHG_GREETING": greeting,
                     "XCHG_MESSAGES": messages}
        self.check_streams(variables, frames(kind, FRAMES[kind]), expected, "finished", messages == 0)

    @covers_fault(26)
    def test_echo_endless(self):
        """Every framing echoes until the client ends, however its stream is split."""
        for kind in FRAMES:
            self.check_framing(kind, reply="echo", greeting="none", messages=0)

    @covers_fault(26)
    def test_echo_counted(self):
        """Every framing greets, echoes three messages and closes."""
        for kind in FRAMES:
            self.check_framing(kind, reply="echo", greeting="hey", messages=3)

    def test_text(self):
        """A text answers every message and is framed like the message."""
        for kind in FRAMES:
            self.check_framing(kind, reply="text:yes", greeting="hey", messages=0)

    def test_none(self):
        """Without a reply, only the greeting is sent, and the server closes after the last message."""
        for kind in FRAMES:
            self.check_framing(kind, reply="none", greeting="hey", messages=3)

    def test_raw_echo(self):
        """raw echoes the stream, however it is split."""
        self.check_streams({"XCHG_FRAME": "raw", "XCHG_REPLY": "echo", "XCHG_GREETING": "hey",
                            "XCHG_MESSAGES": 0}, b"ab\0\n\r\ncd", b"heyab\0\n\r\ncd", "finished", True)

    def test_raw_text(self):
        """Under raw every read is a message, so the text comes at least once and at most once for each piece."""
        streams = every_split(b"ab\0\n\r\ncd")
        with patient(XCHG_FRAME="raw", XCHG_REPLY="text:yes", XCHG_GREETING="none", XCHG_MESSAGES=0) as server:
            for answer, pieces in zip(play(server, streams, True), streams, strict=True):
                self.assertRegex(answer, b"^(yes){1,%d}$" % len(pieces), pieces)
            self.assertEqual(ended(server.stop()), {"finished": len(streams)})

    def test_raw_limit(self):
        """Under raw the limit bounds a read, and no message is too long."""
        with patient(XCHG_FRAME="raw", XCHG_REPLY="text:ab", XCHG_GREETING="none", XCHG_MESSAGES=0,
                     XCHG_MAX_MESSAGE=1) as server:
            with server.connect() as client:
                self.assertEqual(talk(client, b"x" * 100), b"ab" * 100)
            self.assertEqual(ended(server.stop()), {"finished": 1})
        with patient(XCHG_FRAME="raw", XCHG_REPLY="echo", XCHG_GREETING="none", XCHG_MESSAGES=2,
                     XCHG_MAX_MESSAGE=4) as server:
            with server.connect() as client:
                client.sendall(bytes(range(100)))
                answer = receive_all(client)
            self.assertTrue(2 <= len(answer) <= 8, answer)
            self.assertEqual(answer, bytes(range(len(answer))))
            self.assertEqual(ended(server.stop()), {"finished": 1})

    def test_line_ends(self):
        """CR LF is answered with CR LF, LF with LF, the end of the stream with neither. Other CRs are data."""
        data = b"a\r\nb\n\r\n\n\rc\n\r\r\nd\r"
        variables = {"XCHG_EXCHANGE": "line", "XCHG_MESSAGES": 0}
        self.check_streams(variables, data, data, "finished", True)
        self.check_streams({**variables, "XCHG_REPLY": "text:k"}, data, b"k\r\nk\nk\r\nk\nk\nk\r\nk", "finished", True)


class Ends(Case):
    def test_begun_message(self):
        """The end of the stream ends a started nul or line message, which is answered without a terminator."""
        for kind, data in (("nul", b"one\0\0two"), ("line", b"one\n\ntwo")):
            greeted = {"XCHG_FRAME": kind, "XCHG_GREETING": "hey"}
            answered = frames(kind, [b"hey", b"one", b""]) + b"two"
            for messages in (0, 3):
                self.check_streams({**greeted, "XCHG_MESSAGES": messages, "XCHG_REPLY": "echo"}, data,
                                   answered, "finished", True)
            self.check_streams({**greeted, "XCHG_MESSAGES": 0, "XCHG_REPLY": "text:k"}, data,
                               frames(kind, [b"hey", b"k", b"k"]) + b"k", "finished", True)
            self.check_streams({**greeted, "XCHG_MESSAGES": 4, "XCHG_REPLY": "echo"}, data,
                               answered, "peer", True)

    def test_unterminated_message_in_greet(self):
        """The default exchange accepts an unterminated message as its one message."""
        self.check_streams({}, b"hello", GREETING, "finished", True)

    def test_truncated(self):
        """Under u16, u32 and fixed, a message cut by the end of the stream gets no reply and is counted. Earlier
        replies arrive."""
        whole = {"u16": b"\0\2z\0", "u32": b"\0\0\0\2z\0", "fixed:4": b"z\0\n\r"}
        begun = {"u16": (b"\0", b"\0\5", b"\0\5abcd"), "u32": (b"\0", b"\0\0\0", b"\0\0\0\5", b"\0\0\0\5abcd"),
                 "fixed:4": (b"\0", b"abc")}
        for kind, message in whole.items():
            for reply, answer in (("echo", message), ("none", b"")):
                for messages in (0, 2):
                    self.check_truncated({"XCHG_FRAME": kind, "XCHG_REPLY": reply, "XCHG_GREETING": "none",
                                          "XCHG_MESSAGES": messages}, message, answer, begun[kind])

    def check_truncated(self, variables, message, answer, begun):
        with self.subTest(**variables), patient(**variables) as server:
            alone = [pieces for rest in begun for pieces in every_split(rest)]
            after = [pieces for rest in begun for pieces in every_split(message + rest, pairs=False)]
            self.assert_all(play(server, alone, True), b"", alone)
            self.assert_all(play(server, after, True), answer, after)
            self.assertEqual(ended(server.stop()), {"truncated": len(alone) + len(after)})

    def test_after_the_last(self):
        """Bytes after the last counted message are ignored, even complete messages."""
        for kind in ("nul", "line", "u16", "u32"):
            with self.subTest(kind), patient(XCHG_FRAME=kind, XCHG_GREETING="none", XCHG_REPLY="echo",
                                             XCHG_MESSAGES=3) as server:
                messages = [b"1", b"", b"3", b"4", b"", b"6"]
                for rest in (b"", b"7", b"\xff\xff\xff\xff"):
                    with server.connect() as client:
                        client.sendall(frames(kind, messages) + rest)
                        self.assertEqual(receive_all(client), frames(kind, messages[:3]))
                self.assertEqual(ended(server.stop()), {"finished": 3})

    @covers_fault(15)
    def test_half_close_waits_for_the_reply(self):
        """A client that half-closes after its message, then reads late and slowly, gets the whole reply of megabytes."""
        line = random.Random(2).randbytes(4 * MIB).replace(b"\n", b".") + b"\r\n"
        for messages, rest in ((1, b""), (0, b""), (0, b"no end of line")):
            variables = dict(PATIENT, XCHG_EXCHANGE="line", XCHG_MESSAGES=messages, XCHG_MAX_MESSAGE="8MiB", XCHG_SNDBUF="64KiB")
            with self.subTest(messages=messages, rest=rest), self.survive(**variables) as fault:
                with fault.server.connect(rcvbuf=65536 if messages else 16384) as client:
                    client.sendall(line + rest)
                    client.shutdown(socket.SHUT_WR)
                    wait_acknowledged([client])
                    if not rest:  # the server may stop before it, at XCHG_MAX_PENDING
                        wait_read([client])
                    answer = bytearray()
                    while chunk := client.recv(4096):
                        answer += chunk
                self.assertTrue(bytes(answer) == line + rest, "the reply is not the message")
                fault.expect_ends(finished=1)

    def test_half_close_of_a_stream(self):
        """The same for a raw echo, while the replies wait at XCHG_MAX_PENDING."""
        data = random.Random(3).randbytes(8 * MIB)
        with patient(XCHG_EXCHANGE="echo", XCHG_MAX_PENDING="4KiB") as server:
            with server.connect(rcvbuf=65536) as client:
                self.assertTrue(talk(client, data) == data, "the reply is not the stream")
            self.assertEqual(ended(server.stop()), {"finished": 1})


class Pipelines(Case):
    def test_counted(self):
        """A count of thousands ends exactly after its last message."""
        stream = frames("line", [b"%d" % i for i in range(5000)])
        with patient(XCHG_EXCHANGE="line", XCHG_MESSAGES=5000) as server:
            with server.connect() as client:
                self.assertTrue(talk(client, stream + b"more\n", half_close=False) == stream)
            with server.connect() as client:
                self.assertTrue(talk(client, stream[:-1]) == stream[:-1])
            with server.connect() as client:
                self.assertTrue(talk(client, stream[:-5]) == stream[:-5])  # the 5,000th has not started
            self.assertEqual(ended(server.stop()), {"finished": 2, "peer": 1})

    def test_small_reply_to_many(self):
        """Empty messages of a byte each are answered by a longer text."""
        with patient(XCHG_EXCHANGE="line", XCHG_MESSAGES=0, XCHG_REPLY="text:" + "r" * 100) as server:
            with server.connect() as client:
                self.assertTrue(talk(client, b"\n" * 20000) == (b"r" * 100 + b"\n") * 20000)
            self.assertEqual(ended(server.stop()), {"finished": 1})

    def test_conversation(self):
        """A thousand messages on one connection, each sent after the last reply."""
        with patient(XCHG_FRAME="u16", XCHG_GREETING="none", XCHG_REPLY="echo", XCHG_MESSAGES=1000) as server:
            with server.connect() as client:
                for i in range(1000):
                    message = frame("u16", b"%d" % i)
                    client.sendall(message)
                    self.assertEqual(receive_exactly(client, len(message)), message)
                self.assertEqual(receive_all(client), b"")
            self.assertEqual(ended(server.stop()), {"finished": 1})


class Limits(Case):
    @covers_fault(25)
    def test_exact(self):
        """A message as long as the limit is answered in every split. The terminator and the prefix do not count."""
        message = b"0123456789ab"
        for kind in ("nul", "line", "u16", "u32", "fixed:12"):
            self.check_streams({"XCHG_FRAME": kind, "XCHG_GREETING": "none", "XCHG_REPLY": "echo",
                                "XCHG_MESSAGES": 0, "XCHG_MAX_MESSAGE": 12}, frame(kind, message) * 2,
                               frame(kind, message) * 2, "finished", True, pairs=False)
        self.check_streams({"XCHG_EXCHANGE": "line", "XCHG_MAX_MESSAGE": 12}, message + b"\r\n",
                           message + b"\r\n", "finished", False)
        self.check_streams({"XCHG_EXCHANGE": "line", "XCHG_MAX_MESSAGE": 12}, message,
                           message, "finished", True)

    @covers_fault(25)
    def test_one_more(self):
        """One byte more closes the connection as too_long, after the replies to earlier messages."""
        message = b"0123456789abc"
        for kind, data in (("nul", message), ("line", message), ("line", message[:-1] + b"\r."),
                           ("u16", frame("u16", message)), ("u32", frame("u32", message)),
                           ("u16", b"\0\x0d"), ("u32", b"\0\0\0\x0d")):
            before = frame(kind, b"ok")
            for messages in (0, 2):
                self.check_streams({"XCHG_FRAME": kind, "XCHG_GREETING": "none", "XCHG_REPLY": "echo",
                                    "XCHG_MESSAGES": messages, "XCHG_MAX_MESSAGE": 12},
                                   before + data, before, "too_long", False, pairs=False)

    def test_one_more_at_the_end(self):
        """A CR that the end of the stream turns into data can make a message too long. A limit of 1 works."""
        self.check_streams({"XCHG_EXCHANGE": "line", "XCHG_MAX_MESSAGE": 5}, b"hello\r", b"", "too_long", True)
        self.check_streams({"XCHG_EXCHANGE": "line", "XCHG_MESSAGES": 0, "XCHG_MAX_MESSAGE": 1},
                           b"a\r\n\nbc", b"a\r\n\n", "too_long", True)

    def test_mebibyte(self):
        """With a limit of 1 MiB, messages of 1 MiB pass, and one byte more does not."""
        message = random.Random(4).randbytes(MIB).replace(b"\n", b".").replace(b"\0", b".")
        for kind in ("nul", "line", "u32", f"fixed:{MIB}"):
            with self.subTest(kind), patient(XCHG_FRAME=kind, XCHG_GREETING="none", XCHG_REPLY="echo",
                                             XCHG_MESSAGES=0, XCHG_MAX_MESSAGE="1MiB") as server:
                with server.connect() as client:
                    stream = frames(kind, [message, message[::-1], message])
                    self.assertTrue(talk(client, stream) == stream)
                expected = {"finished": 1}
                if not kind.startswith("fixed"):
                    with server.connect() as client:
                        self.assertEqual(talk(client, frame(kind, message + b".")), b"")
                    expected["too_long"] = 1
                self.assertEqual(ended(server.stop()), expected)


class Texts(Case):
    def test_escapes(self):
        """Texts know \\n \\r \\t \\0 \\\\ and \\xNN, and text:none is the word none."""
        for variables, expected in (
                ({"XCHG_GREETING": r"a\n\r\t\\\x41\xfe", "XCHG_REPLY": r"text:\n\\n"},
                 b"a\n\r\t\\A\xfe\0" + b"\n\\n\0"),
                ({"XCHG_GREETING": r"\0\x00", "XCHG_REPLY": r"text:\0a", "XCHG_FRAME": "raw"}, b"\0\0\0a"),
                ({"XCHG_GREETING": r"\0", "XCHG_REPLY": r"text:\0\r.", "XCHG_FRAME": "line"}, b"\0\n\0\r."),
                ({"XCHG_GREETING": "text:none", "XCHG_REPLY": "text:none"}, b"none\0none\0"),
                ({"XCHG_GREETING": "none", "XCHG_REPLY": "text:echo"}, b"echo\0"),
                ({"XCHG_GREETING": "nine bytes", "XCHG_REPLY": "text:", "XCHG_FRAME": "u16"},
                 b"\0\nnine bytes\0\0"),
                ({"XCHG_GREETING": r"\x00\xFF\x7f", "XCHG_REPLY": r"text:\n\r\0", "XCHG_FRAME": "fixed:3"},
                 b"\0\xff\x7f\n\r\0")):
            message = {"u16": b"\0\1m", "fixed:3": b"msg", "line": b"m", "raw": b"m"}
            with self.subTest(variables), patient(**variables) as server:
                with server.connect() as client:
                    sent = message.get(variables.get("XCHG_FRAME"), b"m\0")
                    self.assertEqual(talk(client, sent), expected)
                self.assertEqual(ended(server.stop()), {"finished": 1})
