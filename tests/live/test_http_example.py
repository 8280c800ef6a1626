"""Goal: docs/examples/http.c answers as RFC 9110 and RFC 9112 want it, however the bytes arrive.

CASES is the list of requests and of the answers that they must get. Each stream is sent whole, byte by byte and in two pieces at every
place, and the answers must be the same. What the example refuses is refused with a status and a close.
"""

import contextlib
import datetime
import email.utils
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from clients import ended, every_split, patient, play
from xchgd import LIMIT, PROGRAM, receive_all

HTTP = os.path.join(os.path.dirname(PROGRAM), "examples", "http")
HEAD_MAX, BODY_MAX = 8192, 1 << 20
CLOCK_TICK = datetime.timedelta(milliseconds=10)
DATE = re.compile(rb"Date: ([A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT)\r\n")

ANSWERS = {
    200: ("OK", "ok"), 400: ("Bad Request", "bad request"), 404: ("Not Found", "not found"), 405: ("Method Not Allowed", "not allowed"),
    413: ("Content Too Large", "too large"), 431: ("Request Header Fields Too Large", "head too large"),
    501: ("Not Implemented", "no coding"), 505: ("HTTP Version Not Supported", "HTTP/1.x"),
}


def answer(status, option="", head=False):
    """The bytes of an answer without its date. head: to HEAD, so without its body."""
    reason, body = ANSWERS[status]
    allow = "Allow: GET, HEAD\r\n" if status == 405 else ""
    option = f"Connection: {option}\r\n" if option else ""
    return (f"HTTP/1.1 {status} {reason}\r\n{allow}Content-Type: text/plain\r\nContent-Length: {len(body) + 1}\r\n{option}\r\n"
            + ("" if head else body + "\n")).encode()


def kept(status, **more):
    """An answer after which the connection goes on."""
    return answer(status, **more)


def last(status, **more):
    """An answer after which the server closes."""
    return answer(status, "close", **more)


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
OK, BAD = kept(200), last(400)


def field(*lines, target=b"/", version=b"1.1", method=b"GET"):
    """A request with Host and these further fields."""
    return method + b" " + target + b" HTTP/" + version + b"\r\n" + b"".join(line + b"\r\n" for line in (b"Host: x", *lines)) + b"\r\n"


def raw(*lines):
    """A request of exactly these lines."""
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n"


# What it is about: (what the client sends, what it gets). An answer with "Connection: close" must end the stream.
CASES = {
    # ---- connections ----
    "HTTP/1.1 keeps the connection": (GET, OK),
    "two requests in one stream": (GET * 2, OK * 2),
    "answers keep their order": (GET + field(target=b"/a") + field(method=b"HEAD") + GET, OK + kept(404) + kept(200, head=True) + OK),
    "HTTP/1.1, close": (field(b"Connection: close"), last(200)),
    "nothing after a close is answered": (field(b"Connection: close") + GET, last(200)),
    "an option among others": (field(b"Connection: x, CLOSE ,y"), last(200)),
    "options in two fields": (field(b"Connection: x", b"Connection: close"), last(200)),
    "a word that an option begins with": (field(b"Connection: clos", b"Connectio: close"), OK),
    "a word that only begins like an option": (field(b"Connection: closed, keep-alives"), OK),
    "HTTP/1.0 closes": (field(version=b"1.0"), last(200)),
    "HTTP/1.0, keep-alive": (field(b"Connection: Keep-Alive", version=b"1.0"), answer(200, "keep-alive")),
    "HTTP/1.0, keep-alive, then not": (field(b"Connection: keep-alive", version=b"1.0") + field(version=b"1.0"),
                                       answer(200, "keep-alive") + last(200)),
    "close wins": (field(b"Connection: keep-alive, close", version=b"1.0"), last(200)),
    "an empty line before a request": (b"\r\n" + GET + b"\r\n\r\n" + GET, OK * 2),
    "no request": (b"", b""),
    "an empty line only": (b"\r\n", b""),
    "half a request": (GET[:-2], b""),
    "half a first line": (b"GE", b""),
    # ---- methods and targets ----
    "HEAD": (field(method=b"HEAD"), kept(200, head=True)),
    "HEAD of what is not there": (field(method=b"HEAD", target=b"/a"), kept(404, head=True)),
    "HEAD, then GET": (field(method=b"HEAD") + GET, kept(200, head=True) + OK),
    "HEAD, HTTP/1.0": (field(method=b"HEAD", version=b"1.0"), last(200, head=True)),
    "a method that is not allowed": (field(method=b"DELETE"), kept(405)),
    "a method that is unknown": (field(method=b"X-y!"), kept(405)),
    "methods have a case": (field(method=b"get"), kept(405)),
    "not found comes before not allowed": (field(method=b"DELETE", target=b"/a"), kept(404)),
    "a query": (field(target=b"/?a=b&c=/d?e"), OK),
    "another path": (field(target=b"/index.html"), kept(404)),
    "two slashes are another path": (field(target=b"//"), kept(404)),
    "an absolute target": (field(target=b"http://x/"), OK),
    "an absolute target without path": (field(target=b"HTTP://x"), OK),
    "an absolute target with a query": (field(target=b"http://x/?a"), OK),
    "an absolute target with a path": (field(target=b"http://x:80/a"), kept(404)),
    "an absolute target without host": (field(target=b"http:///"), BAD),
    "a user in an absolute target": (field(target=b"http://x@y/"), BAD),
    "another scheme": (field(target=b"ftp://x/"), BAD),
    "no path": (field(target=b"a"), BAD),
    "OPTIONS *": (field(method=b"OPTIONS", target=b"*"), kept(405)),
    "GET *": (field(target=b"*"), BAD),
    "CONNECT": (field(method=b"CONNECT", target=b"x:443"), BAD),
    "a control byte in a target": (field(target=b"/\x01"), BAD),
    "a 0 byte in a target": (field(target=b"/\0"), BAD),
    "a tab in a target": (field(target=b"/\t"), BAD),
    "DEL in a target": (field(target=b"/\x7f"), BAD),
    "a byte over 127 in a target": (field(target=b"/\xe4"), BAD),
    # ---- the first line ----
    "nonsense": (raw(b"nonsense"), BAD),
    "no version": (raw(b"GET /"), BAD),
    "no target": (raw(b"GET HTTP/1.1", b"Host: x"), BAD),
    "two spaces": (raw(b"GET  / HTTP/1.1", b"Host: x"), BAD),
    "no method": (raw(b" / HTTP/1.1", b"Host: x"), BAD),
    "a space before": (raw(b" GET / HTTP/1.1", b"Host: x"), BAD),
    "a space after": (raw(b"GET / HTTP/1.1 ", b"Host: x"), BAD),
    "a fourth word": (raw(b"GET / HTTP/1.1 x", b"Host: x"), BAD),
    "a method with a separator": (raw(b"G(T / HTTP/1.1", b"Host: x"), BAD),
    "another protocol": (raw(b"GET / HTTQ/1.1", b"Host: x"), BAD),
    "a protocol in lower case": (raw(b"GET / http/1.1", b"Host: x"), BAD),
    "a major version that is no digit": (raw(b"GET / HTTP/a.1", b"Host: x"), BAD),
    "a minor version that is no digit": (raw(b"GET / HTTP/1.b", b"Host: x"), BAD),
    "a version without a dot": (raw(b"GET / HTTP/1x1", b"Host: x"), BAD),
    "CR after the version": (raw(b"GET / HTTP/1.1\rx", b"Host: x"), BAD),
    "a version without minor": (raw(b"GET / HTTP/1", b"Host: x"), BAD),
    "a version of two digits": (raw(b"GET / HTTP/1.10", b"Host: x"), BAD),
    "a later minor version": (field(version=b"1.2"), OK),
    "HTTP/2": (field(version=b"2.0"), last(505)),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD),
    "HTTP/2 without Host": (raw(b"GET / HTTP/2.1"), last(505)),
    "HTTP/0": (field(version=b"0.9"), last(505)),
    # ---- lines ----
    "LF alone": (b"GET / HTTP/1.1\nHost: x\n\n", BAD),
    "LF alone after a field": (b"GET / HTTP/1.1\r\nHost: x\n\r\n", BAD),
    "LF alone between fields": (raw(b"GET / HTTP/1.1", b"A: b\nHost: x"), BAD),
    "LF alone as the last line": (b"GET / HTTP/1.1\r\nHost: x\r\n\n", BAD),
    "LF first": (b"\n" + GET, BAD),
    "CR within a line": (field(b"A: b\rc"), BAD),
    "CR CR LF": (b"GET / HTTP/1.1\r\nHost: x\r\r\n\r\n", BAD),
    "a 0 byte": (field(b"A: b\0c"), BAD),
    "DEL": (field(b"A: b\x7fc"), BAD),
    "tabs and bytes over 127 in a value": (field(b"A: \t b\tc\xe4 \t"), OK),
    "an empty value": (field(b"A:"), OK),
    "a colon in a value": (field(b"A: b:c"), OK),
    "no colon": (field(b"A"), BAD),
    "no name": (field(b": a"), BAD),
    "a space before the colon": (field(b"A : b"), BAD),
    "a 0 byte in a name": (field(b"A\0: b"), BAD),
    "a space in a name": (field(b"A b: c"), BAD),
    "a folded line": (field(b"A: b", b" c"), BAD),
    "a folded line at the begin": (raw(b"GET / HTTP/1.1", b" A: b", b"Host: x"), BAD),
    # ---- Host ----
    "no Host": (raw(b"GET / HTTP/1.1"), BAD),
    "a field that Host begins with": (raw(b"GET / HTTP/1.1", b"Hos: x"), BAD),
    "no Host, HTTP/1.0": (raw(b"GET / HTTP/1.0"), last(200)),
    "two Hosts": (field(b"Host: x"), BAD),
    "two Hosts, HTTP/1.0": (field(b"Host: y", version=b"1.0"), BAD),
    "an empty Host": (raw(b"GET / HTTP/1.1", b"Host:"), OK),
    "Host in any case": (raw(b"GET / HTTP/1.1", b"hOSt:x:80"), OK),
    "Host, IPv6": (raw(b"GET / HTTP/1.1", b"Host: [::1]:8080"), OK),
    "a Host that is none": (raw(b"GET / HTTP/1.1", b"Host: x y"), BAD),
    "a Host with a path": (raw(b"GET / HTTP/1.1", b"Host: x/y"), BAD),
    "a list of Hosts": (raw(b"GET / HTTP/1.1", b"Host: x@y"), BAD),
    # ---- bodies ----
    "a body is skipped": (POST + GET, kept(405) + OK),
    "a body that looks like a request": (field(b"Content-Length: %d" % len(GET)) + GET + GET, OK * 2),
    "an empty body": (field(b"Content-Length: 0") + GET, OK * 2),
    "a body that does not come": (POST[:-1], kept(405)),
    "zeros before a length": (field(b"Content-Length: 0005") + b"hello" + GET, OK * 2),
    "a length with a sign": (field(b"Content-Length: +5"), BAD),
    "a negative length": (field(b"Content-Length: -1"), BAD),
    "a length of letters": (field(b"Content-Length: 0x5"), BAD),
    "no length": (field(b"Content-Length:"), BAD),
    "two lengths": (field(b"Content-Length: 5", b"Content-Length: 6"), BAD),
    "the same length twice": (field(b"Content-Length: 5", b"Content-Length: 5"), BAD),
    "a list of lengths": (field(b"Content-Length: 5, 5"), BAD),
    "a long body": (field(b"Content-Length: %d" % (BODY_MAX + 1)), last(413)),
    "a length over any number": (field(b"Content-Length: " + b"9" * 40), last(413)),
    "chunks": (field(b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n", last(501)),
    "another coding": (field(b"transfer-encoding: gzip, chunked"), last(501)),
    "chunks, HTTP/1.0": (field(b"Transfer-Encoding: chunked", version=b"1.0"), last(501)),
    "chunks and a length": (field(b"Transfer-Encoding: chunked", b"Content-Length: 5"), BAD),
    "a length and chunks": (field(b"Content-Length: 5", b"Transfer-Encoding: identity"), BAD),
    "an expectation": (field(b"Expect: 100-continue", b"Content-Length: 5", method=b"POST"), last(405)),
    # ---- what was right before is answered ----
    "a wrong request after a right one": (GET + raw(b"nonsense") + GET, OK + BAD),
    "a wrong HEAD": (raw(b"HEAD /"), last(400, head=True)),
}


def without_dates(data):
    return DATE.sub(b"", data)


def serve(**variables):
    return patient(program=HTTP, **variables)


# A refused client goes on sending to a server that has closed, which the client's kernel then says. The answer has arrived before.
GONE = (BrokenPipeError, ConnectionResetError)


def receive(client):
    """Everything until the end of the stream, or until the server refuses more bytes."""
    data = bytearray()
    with contextlib.suppress(*GONE):
        while chunk := client.recv(65536):
            data += chunk
    return without_dates(bytes(data))


def send(client, piece, half_close=False):
    with contextlib.suppress(*GONE):
        client.sendall(piece)
    if half_close:
        with contextlib.suppress(OSError):  # it is not connected any more
            client.shutdown(socket.SHUT_WR)


def answers_to(server, streams, half_close):
    """The answers to each stream, a list of pieces. The server reads each piece before the next is sent."""
    return play(server, streams, half_close, 200, send=send, receive=receive)


def ask(server, data):
    """The answers to a client that sends all of ${data} and half-closes while it reads."""
    with server.connect() as client:
        sender = threading.Thread(target=send, args=(client, data, True), daemon=True)
        sender.start()
        answers = receive(client)
        sender.join(LIMIT)
        return answers


class Conformance(unittest.TestCase):
    def check(self, server, name, streams, half_close):
        expected = CASES[name][1]
        for pieces, got in zip(streams, answers_to(server, streams, half_close)):
            self.assertEqual(got, expected, f"{name}: {pieces!r}")

    def test_table(self):
        """Every case, in every split. The server itself ends the connections of those that it refuses."""
        with serve() as server:
            for name, (sent, expected) in CASES.items():
                streams = every_split(sent, pairs=False) if sent else [[b""]]
                self.check(server, name, streams, half_close=b"Connection: close\r\n" not in expected)
            server.stop()

    def test_half_close(self):
        """A client that half-closes at once gets the same answers."""
        with serve() as server:
            for name, (sent, expected) in CASES.items():
                self.assertEqual(ask(server, sent), expected, name)
            server.stop()

    def test_three_pieces(self):
        """Some cases in three pieces at all places."""
        with serve() as server:
            for name in ("an empty line before a request", "a body is skipped", "LF alone after a field"):
                self.check(server, name, every_split(CASES[name][0]), half_close=True)
            server.stop()

    def test_reasons(self):
        """A refused request is an exchange that is finished; only a stream that ends within a request is truncated."""
        with serve() as server:
            for sent in (GET, raw(b"nonsense"), GET[:-2]):
                ask(server, sent)
            self.assertEqual(ended(server.stop()), {"finished": 2, "truncated": 1})


class Limits(unittest.TestCase):
    def test_head(self):
        """A head of 8 KiB is answered, a longer one is refused, and so is one that never ends."""
        with serve() as server:
            for extra, expected in ((-1, OK), (0, OK), (1, last(431)), (1000, last(431))):
                head = field(b"A: ")
                head = head.replace(b"A: ", b"A: " + b"x" * (HEAD_MAX + extra - len(head)))
                self.assertEqual(len(head), HEAD_MAX + extra)
                self.assertEqual(ask(server, head), expected, extra)
                for at in (1, 100, HEAD_MAX - 1, len(head) - 1):
                    self.assertEqual(answers_to(server, [[head[:at], head[at:]]], half_close=True), [expected], (extra, at))
            with server.connect() as client:
                send(client, b"GET /" + b"a" * HEAD_MAX)
                self.assertEqual(receive(client), last(431))
            server.stop()

    def test_bodies(self):
        """Bodies up to 1 MiB are skipped exactly."""
        with serve() as server:
            for size in (1, HEAD_MAX - 1, HEAD_MAX, HEAD_MAX + 1, 65536, BODY_MAX - 1, BODY_MAX):
                request = field(b"Content-Length: %d" % size, method=b"POST")
                self.assertEqual(ask(server, (request + b"\n" * size) * 2 + GET), kept(405) * 2 + OK, size)
            server.stop()

    def test_refused_body(self):
        """The answer to a body that is too long arrives, although the client goes on sending."""
        with serve() as server:
            request = field(b"Content-Length: %d" % (8 * BODY_MAX), method=b"POST")
            self.assertEqual(ask(server, request + b"x" * (8 * BODY_MAX)), last(413))
            server.stop()

    def test_pipeline(self):
        """Ten thousand requests at once get their answers in order."""
        with serve() as server:
            some = GET + field(target=b"/a") + POST
            self.assertEqual(ask(server, some * 3334), (OK + kept(404) + kept(405)) * 3334)
            server.stop()


class Dates(unittest.TestCase):
    def date(self, server):
        """The date of an answer, made between a moment before the request and one after the answer. time(2) lags by up to a tick."""
        before = (datetime.datetime.now(datetime.timezone.utc) - CLOCK_TICK).replace(microsecond=0)
        with server.connect() as client:
            client.sendall(field(b"Connection: close"))
            date, = DATE.findall(receive_all(client))
        made = email.utils.parsedate_to_datetime(date.decode())
        self.assertTrue(before <= made <= datetime.datetime.now(datetime.timezone.utc), (before, made))
        self.assertEqual(email.utils.format_datetime(made, usegmt=True), date.decode())
        return made

    def test_date(self):
        """Each answer has the time of its making, in GMT, whatever the locale and the time zone. Each thread notices the next second."""
        with serve(TZ="Asia/Tokyo", LC_ALL="de_DE.UTF-8", XCHG_WORKERS=1) as server:
            first, deadline = self.date(server), time.monotonic() + LIMIT
            while self.date(server) == first:
                self.assertLess(time.monotonic(), deadline, "the date does not change")
            server.stop()


class Curl(unittest.TestCase):
    def test_curl(self):
        """curl keeps its connection, and understands each refusal."""
        with serve() as server, tempfile.NamedTemporaryFile() as body:
            url = f"http://127.0.0.1:{server.port}"
            body.write(b"x" * (2 * BODY_MAX))
            body.flush()

            def curl(*arguments):
                done = subprocess.run(["curl", "-sS", "--max-time", str(LIMIT), "-w", "%{http_code} %{num_connects}\n", *arguments],
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
                self.assertEqual((done.returncode, done.stderr), (0, ""), arguments)
                return done.stdout
            self.assertEqual(curl(f"{url}/", f"{url}/?a", f"{url}/a"), "ok\n200 1\nok\n200 0\nnot found\n404 0\n")
            self.assertEqual(curl("-0", f"{url}/", f"{url}/"), "ok\n200 1\nok\n200 1\n")
            self.assertRegex(curl("-I", f"{url}/"), r"(?s)^HTTP/1.1 200 OK\n.*Content-Length: 3\n.*\n200 1\n$")
            self.assertEqual(curl("-d", "a=b", f"{url}/", f"{url}/"), "not allowed\n405 1\nnot allowed\n405 0\n")
            self.assertEqual(curl("-H", "Transfer-Encoding: chunked", "-d", "a=b", f"{url}/"), "no coding\n501 1\n")
            self.assertEqual(curl("-H", "Host:", f"{url}/"), "bad request\n400 1\n")
            self.assertEqual(curl("-H", "Expect: 100-continue", "--data-binary", f"@{body.name}", f"{url}/"), "too large\n413 1\n")
            self.assertEqual(curl("-H", "Expect:", "--data-binary", f"@{body.name}", f"{url}/"), "too large\n413 1\n")
            self.assertEqual(curl("--proxy", url, "http://example.org/"), "ok\n200 1\n")
            server.stop()
