"""Goal: the admin endpoint answers probes and shows numbers to TCP, obeys a UNIX socket only, refuses what is malformed,
and has a place for the operator whatever the server's own clients and other readers do (docs/reference.md, Admin endpoint)."""

import fcntl
import json
import os
import re
import resource
import selectors
import signal
import socket
import stat
import struct
import subprocess
import termios
import time

from clients import INSTRUMENTED, FolderTest, ended
from endpoint import COMMAND, Endpoint, request
from fault_matrix import covers_fault
from xchgd import GREETING, LIMIT, PROGRAM, Server, greet, receive_all, receive_exactly, run

PLACES = 16
LATE = os.path.join(os.path.dirname(PROGRAM), "tests/live/plugin/late.so")
GET_ROUTES = ("/livez", "/readyz", "/metrics", "/stats", "/", "/page.js", "/page.css")
COMMANDS = ("/drain", "/ready?state=on", "/close?id=1", "/log?level=info&for=1s")


class AdminTest(FolderTest):
    def endpoint(self, **variables):
        server = Endpoint(self.path("admin"), **variables)
        self.addCleanup(server.__exit__)
        return server

    def asker(self, server, unix=False):
        asker = server.unix_asker() if unix else server.tcp_asker()
        self.addCleanup(asker.socket.close)
        return asker


class Routes(AdminTest):
    def test_each_get_route(self):
        server = self.endpoint()
        types = {"/metrics": "text/plain; version=0.0.4; charset=utf-8", "/stats": "application/json",
                 "/": "text/html; charset=utf-8", "/page.js": "text/javascript; charset=utf-8", "/page.css": "text/css; charset=utf-8"}
        for target in GET_ROUTES:
            for unix in (False, True):
                with self.subTest(target, unix=unix):
                    reply = server.ask(target, unix=unix)
                    self.assertEqual((reply.version, reply.status), ("HTTP/1.1", 200))
                    self.assertEqual(reply.fields["content-type"], types.get(target, "text/plain; charset=utf-8"))
                    self.assertEqual(reply.fields["cache-control"], "no-store")
                    self.assertEqual(reply.fields["x-content-type-options"], "nosniff")
                    self.assertEqual("content-security-policy" in reply.fields, target in ("/", "/page.js", "/page.css"))
                    self.assertNotIn("server", reply.fields)
                    self.assertNotIn("connection", reply.fields)
                    if target in ("/livez", "/readyz"):
                        self.assertEqual(reply.text, "ok\n")
        server.stop()

    def test_head_has_the_head_of_get(self):
        server = self.endpoint()
        with server.tcp_asker() as asker:
            for target in GET_ROUTES:
                got, head = asker.ask(target), asker.ask(target, "HEAD")
                if target not in ("/metrics", "/stats"):  # their size changes
                    self.assertEqual(head.fields, got.fields, target)
                self.assertEqual((head.status, head.body), (200, b""), target)
            self.assertEqual(asker.ask("/nothing", "HEAD").status, 404)
            self.assertEqual(asker.ask("/livez").text, "ok\n")  # nothing is left in between

    def test_numbers_are_the_clients(self):
        server = self.endpoint()
        for _ in range(3):
            with server.connect() as client:
                greet(client)
        with server.connect() as client:
            receive_exactly(client, len(GREETING))
            self.assertEqual(server.metric("xchg_connections_accepted_total"), 4)
            self.assertEqual(server.metric("xchg_connections_open"), 1)
            self.assertEqual(server.metric('xchg_connections_ended_total{reason="finished"}'), 3)
            stats = json.loads(server.ask("/stats").text)
            self.assertEqual((stats["schema"], stats["accepted"], stats["open"], stats["state"], stats["ready"]), (1, 4, 1, "serving", True))
            self.assertEqual(stats["pid"], server.pid)
            self.assertNotIn("settings", stats)
            settings = json.loads(server.ask("/stats", unix=True).text)["settings"]
            self.assertEqual(settings["XCHG_LISTEN"], {"value": "127.0.0.1:0", "from": "environment"})
            self.assertEqual(settings["XCHG_LINGER"], {"value": "2s", "from": "default"})

    def test_openmetrics_where_it_is_preferred(self):
        server = self.endpoint()
        wanted = "Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,*/*;q=0.1"
        reply = server.ask("/metrics", "GET", wanted)
        self.assertEqual(reply.fields["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8")
        self.assertTrue(reply.text.endswith("# EOF\n"))
        reply = server.ask("/metrics", "GET", "Accept: application/openmetrics-text;q=0.4,text/plain;q=0.5")
        self.assertNotIn("# EOF", reply.text)

    def test_curl(self):
        server = self.endpoint()
        def curl(*arguments):
            return subprocess.run(["curl", "-sS", "--max-time", str(LIMIT), "-w", " %{http_code}", *arguments],
                                  stdout=subprocess.PIPE, text=True, check=True).stdout
        unix = ["--unix-socket", server.path]
        self.assertEqual(curl(f"http://{server.tcp}/readyz"), "ok\n 200")
        self.assertEqual(curl("-0", f"http://{server.tcp}/readyz"), "ok\n 200")
        self.assertEqual(curl(*unix, "http://x/livez"), "ok\n 200")
        self.assertRegex(curl("-I", f"http://{server.tcp}/livez"), r"(?s)^HTTP/1.1 200 OK\n.*Content-Length: 3\n.* 200$")
        self.assertEqual(curl(*unix, "-X", "POST", "-H", COMMAND, "http://x/ready?state=off"), "off\n 200")
        self.assertEqual(curl(*unix, "-d", "a=b", "-H", COMMAND, "http://x/ready?state=on"), "Content Too Large\n 413")

    def test_other_models(self):
        for model in ("iterative", "thread", "fork"):
            with self.subTest(model):
                server = self.endpoint(XCHG_MODEL=model)
                with server.connect() as client:
                    greet(client)
                self.assertEqual(server.ask("/livez").status, 200)
                self.assertEqual(server.ask("/close?id=1", "POST").status, 501)
                self.assertEqual(server.ask("/connections", unix=True).status, 501)
                server.wait_reply("/metrics", lambda reply: 'ended_total{reason="finished"} 1\n' in reply.text)
                server.stop()


class Connections(AdminTest):
    def test_keep_alive_and_pipelining_in_order(self):
        server = self.endpoint()
        targets = ["/livez", "/stats", "/nothing", "/readyz", "/metrics", "/page.css"] * 20
        with server.tcp_asker() as asker:
            asker.send("".join(map(request, targets)))
            for target in targets:
                reply = asker.reply()
                self.assertEqual(reply.status, 404 if target == "/nothing" else 200, target)
                self.assertEqual(target == "/stats", reply.body.startswith(b"{"), target)
                self.assertEqual(target == "/metrics", reply.body.startswith(b"# HELP"), target)
            asker.send(request("/livez", "GET", "Connection: close") + request("/livez"))
            self.assertEqual(asker.reply().fields["connection"], "close")
            self.assertTrue(asker.at_end())

    def test_pipelined_requests_wait_while_the_client_does_not_read(self):
        server = self.endpoint()
        asker = self.asker(server, unix=True)
        asker.socket.setblocking(False)
        one = request("/livez").encode()
        data, sent, before = one * 40000, 0, None
        while before != (before := sent) or sent == 0:  # until neither a byte was taken since, nor memory grows
            try:
                while sent < len(data):
                    sent += asker.socket.send(data[sent:sent + 65536])
            except BlockingIOError:
                self.assertEqual(server.ask("/readyz").status, 200)
        self.assertLess(sent, len(data))
        if not INSTRUMENTED:
            self.assertLess(server.memory_bytes("RssAnon"), 4 << 20)
        asker.socket.settimeout(LIMIT)
        for _ in range(sent // len(one)):
            self.assertEqual(asker.reply().status, 200)
        asker.send(data[sent:len(one) * (sent // len(one) + 1)].decode())
        self.assertEqual(asker.reply().status, 200)

    def test_http_1_0(self):
        server = self.endpoint()
        with server.tcp_asker() as asker:
            asker.send("GET /readyz HTTP/1.0\r\n\r\n")
            reply = asker.reply()
            self.assertEqual((reply.status, reply.text, reply.fields["connection"]), (200, "ok\n", "close"))
            self.assertTrue(asker.at_end())
        with server.unix_asker() as asker:
            for _ in range(2):
                asker.send("GET /readyz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                self.assertEqual(asker.reply().fields["connection"], "keep-alive")

    def test_sixteen_idle_and_one_more(self):
        server = self.endpoint()
        idle = [self.asker(server) for _ in range(PLACES)]
        for asker in idle:
            self.assertEqual(asker.ask("/livez").status, 200)
        self.assertEqual(idle[0].ask("/livez").status, 200)  # so the second one is idle for longest
        one_more = self.asker(server, unix=True)
        self.assertEqual(one_more.ask("/livez").status, 200)
        self.assertTrue(idle[1].at_end())
        for asker in [one_more, *idle[:1], *idle[2:]]:
            self.assertEqual(asker.ask("/livez").status, 200)

    @covers_fault(62)
    def test_many_that_say_nothing(self):
        server = self.endpoint()
        for _ in range(3 * PLACES):
            self.asker(server)
        self.assertEqual(server.ask("/livez").status, 200)
        self.assertEqual(server.metric("xchg_connections_open"), 0)  # they are no clients of the server

    def test_a_burst_of_newcomers(self):
        """More clients than places have asked before the server accepts: each has its answer."""
        server = self.endpoint()
        server.pause()
        many = [self.asker(server, unix=i % 2 == 0) for i in range(5 * PLACES)]
        for asker in many:
            asker.send(request("/livez"))
        server.resume()
        for asker in many:
            self.assertEqual(asker.reply().status, 200)
        self.assertEqual(server.ask("/livez").status, 200)

    def begin(self, asker, text):
        """Send the beginning of a request, and wait until the server has read it: then a UNIX socket holds no byte."""
        asker.send(text)
        deadline = time.monotonic() + LIMIT
        while struct.unpack("i", fcntl.ioctl(asker.socket, termios.TIOCOUTQ, bytes(4)))[0] > 0:
            self.assertLess(time.monotonic(), deadline, "the server does not read")

    @covers_fault(62)
    def test_readers_of_single_bytes(self):
        """While 15 send byte after byte, each new connection gets an answer."""
        server = self.endpoint()
        slow = [self.asker(server, unix=True) for _ in range(PLACES - 1)]
        idle = self.asker(server)
        self.assertEqual(idle.ask("/livez").status, 200)
        for byte in "GET ":
            for asker in slow:
                self.begin(asker, byte)
            self.assertEqual(server.ask("/readyz").status, 200)
        self.assertTrue(idle.at_end())
        for asker in slow:
            asker.send("/livez HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertEqual(asker.reply().status, 200)

    @covers_fault(62)
    def test_none_is_idle(self):
        server = self.endpoint()
        busy = [self.asker(server, unix=True) for _ in range(PLACES)]
        for asker in busy:
            self.begin(asker, "G")
        self.assertTrue(self.asker(server).at_end())
        busy[0].send("ET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(busy[0].reply().status, 200)
        self.assertEqual(server.ask("/livez").status, 200)
        self.assertTrue(busy[0].at_end())

    def test_unix_goes_before_tcp(self):
        """Who can only reach the port cannot lock out who can open the socket."""
        server = self.endpoint()
        busy = [self.asker(server) for _ in range(PLACES)]
        for asker in busy:
            asker.send(request("/livez") + "G")  # in one segment: with the answer, both have been read
            self.assertEqual(asker.reply().status, 200)
        self.assertTrue(self.asker(server).at_end())
        operator = self.asker(server, unix=True)
        self.assertEqual(operator.ask("/livez").status, 200)
        self.assertTrue(busy[0].at_end())
        busy[1].send("ET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(busy[1].reply().status, 200)
        self.assertEqual(operator.ask("/livez").status, 200)

    def test_a_burst_that_asks_nothing(self):
        """Beginnings of requests keep a place over the limit for a moment only."""
        server = self.endpoint()
        server.pause()
        begin = time.monotonic()
        many = [self.asker(server, unix=i % 2 == 0) for i in range(PLACES + 6)]
        for asker in many:
            asker.send("G")
        server.resume()
        with selectors.DefaultSelector() as ends:
            for asker in many:
                ends.register(asker.socket, selectors.EVENT_READ)
            while len(ends.get_map()) > PLACES:
                for key, _ in ends.select(LIMIT):
                    ends.unregister(key.fileobj)
        self.assertLess(time.monotonic() - begin, 4)  # before the time for a head is over
        self.assertEqual(server.ask("/livez", unix=True).status, 200)
    def test_readers_by_tcp_do_not_keep_the_operator_out(self):
        """Where none is idle, a newcomer by the UNIX socket ends the TCP connection that was used least recently."""
        server = self.endpoint()
        operator = self.asker(server, unix=True)
        busy = [self.asker(server) for _ in range(PLACES - 1)]
        for asker in [operator, *busy]:
            asker.send(request("/livez") + "G")  # in one segment: with the answer, both have been read
            self.assertEqual(asker.reply().status, 200)
        self.assertTrue(self.asker(server).at_end())
        self.assertEqual(server.ask("/readyz", unix=True).status, 200)
        self.assertTrue(busy[0].at_end())
        for asker in [operator, *busy[1:]]:
            asker.send("ET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertEqual(asker.reply().status, 200)

    def test_a_head_that_does_not_come(self):
        server = self.endpoint()
        with server.tcp_asker() as asker, server.unix_asker() as other:
            self.assertEqual(asker.ask("/livez").status, 200)
            begin = time.monotonic()
            asker.send("GET /livez HTTP/1.1\r\n")
            other.send("HEAD /l")
            self.assertEqual(other.reply().status, 408)
            self.assertGreaterEqual(time.monotonic() - begin, 5)
            reply = asker.reply()
            self.assertEqual((reply.status, reply.text, reply.fields["connection"]), (408, "Request Timeout\n", "close"))
            self.assertTrue(asker.at_end())
            self.assertEqual(server.ask("/livez").status, 200)


class Guards(AdminTest):
    @covers_fault(62)
    def test_commands_want_a_unix_socket(self):
        server = self.endpoint()
        for target in COMMANDS:
            self.assertEqual(server.ask(target, "POST", unix=False).status, 403, target)
        self.assertEqual(server.ask("/connections").status, 403)
        self.assertEqual(server.ask("/connections", unix=True).status, 200)
        self.assertEqual(server.messages("command"), [])

    def test_the_socket_is_the_users(self):
        server = self.endpoint()
        self.assertEqual(stat.S_IMODE(os.stat(server.path).st_mode), 0o600)

    def test_method(self):
        server = self.endpoint()
        for unix in (False, True):
            for target in GET_ROUTES:
                for method in ("POST", "PUT", "DELETE", "get", "OPTIONS"):
                    reply = server.ask(target, method, unix=unix)
                    self.assertEqual((reply.status, reply.fields["allow"]), (405, "GET, HEAD"), (target, method))
            for target in COMMANDS:
                for method in ("GET", "HEAD", "PUT"):
                    with server.unix_asker() if unix else server.tcp_asker() as asker:
                        reply = asker.ask(target, method, COMMAND)
                        self.assertEqual((reply.status, reply.fields["allow"]), (405, "POST"), (target, method))

    def test_command_field(self):
        server = self.endpoint()
        with server.unix_asker() as asker:
            for field in ([], ["Xchg-Command: no"], ["Xchg-Command:"], ["X-Command: yes"]):
                for target in COMMANDS:
                    self.assertEqual(asker.ask(target, "POST", *field).status, 403, (target, field))
            self.assertEqual(asker.ask("/ready?state=on", "POST", "xchg-command: YES").status, 200)

    @covers_fault(62)
    def test_host(self):
        server = self.endpoint()
        private = [("/stats", "GET"), ("/", "GET"), ("/page.js", "GET"), ("/connections", "GET"), ("/ready?state=on", "POST")]
        for target, method in private:
            for host, status in (("localhost:8080", 200), ("127.0.0.1:1", 200), ("[::1]:1", 200), ("x", 200), ("", 200),
                                 ("evil.example", 403), ("evil.example:80", 403), ("1.2.3.4.nip.io", 403), ("localhost.", 403)):
                self.assertEqual(server.ask(target, method, unix=True, host=host).status, status, (target, host))
                if target in GET_ROUTES:  # on loopback
                    self.assertEqual(server.ask(target, unix=False, host=host).status, status, (target, host))
        for target in ("/livez", "/readyz", "/metrics"):
            self.assertEqual(server.ask(target, host="xchg.default.svc:7001").status, 200)

    def test_origin(self):
        server = self.endpoint()
        for origin, status in (("http://localhost:8080", 200), ("https://LOCALHOST:8080", 200), ("http://localhost", 403), ("null", 403),
                               ("http://evil.example", 403), ("http://localhost:8080.evil.example", 403)):
            reply = server.ask("/ready?state=on", "POST", f"Origin: {origin}", host="localhost:8080")
            self.assertEqual(reply.status, status, origin)

    def test_unknown_names(self):
        server = self.endpoint()
        for target in ("/livez?a", "/readyz?x=1", "/metrics?name=a", "/stats?a=b", "/?a", "/page.js?1"):
            self.assertEqual(server.ask(target).status, 400, target)
        self.assertEqual(server.ask("/livez?").status, 200)
        for target in ("/drain?now", "/ready", "/ready?state=", "/ready?state=maybe", "/ready?state=on&state=on", "/ready?state=on&x=1",
                       "/ready?State=on", "/log", "/log?level=all", "/log?level=info&for=0", "/log?level=info&for=999ms",
                       "/log?level=info&for=61m", "/log?level=info&for=1", "/close", "/close?id=", "/close?id=x", "/close?id=1F",
                       "/close?id=11111111111111111", "/close?id=1&how=kill", "/ready?state=" + "o" * 40):
            self.assertEqual(server.ask(target, "POST").status, 400, target)
        for target in ("/livez/", "/LIVEZ", "//livez", "/%6civez", "/metrics.", "/page", "/..", "/a" * 400):
            self.assertEqual(server.ask(target).status, 404, target)

    @covers_fault(62)
    def test_malformed(self):
        """Each gets its status, then the end of the connection, also with more bytes behind it."""
        server = self.endpoint()
        cases = [("GET / HTTP/1.1\r\n\r\n", 400), ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400), ("GET / HTTP/1.1\nHost: a\n\n", 400),
                 ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400), ("GET / HTTP/1.1\r\nHost: a\x00\r\n\r\n", 400), ("\x16\x03\x01\x00", 400),
                 ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400), ("GET / HTTP/2.0\r\n", 505),
                 ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 413), ("GET /" + "a" * 1024 + " HTTP/1.1\r\n", 414),
                 ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
                 ("GET / HTTP/1.1\r\n" + "a: b\r\n" * 64, 431), ("GET / HTTP/1.1\r\na: " + "b" * 8192, 431), ("G" * 8192, 414)]
        for unix in (False, True):
            for text, status in cases:
                for more in ("", "x" * 100000):
                    with self.subTest(text[:60], unix=unix, more=len(more)):
                        with server.unix_asker() if unix else server.tcp_asker() as asker:
                            asker.send(text + more)
                            reply = asker.reply()
                            self.assertEqual((reply.status, reply.fields["connection"]), (status, "close"))
                            self.assertRegex(reply.text, r"\A[^\n]+\n\Z")
                            self.assertTrue(asker.at_end())
        self.assertEqual(server.ask("/livez").status, 200)


class Commands(AdminTest):
    def test_ready(self):
        server = self.endpoint()
        self.assertEqual(server.ask("/ready?state=off", "POST").text, "off\n")
        reply = server.ask("/readyz")
        self.assertEqual((reply.status, reply.text), (503, "off\n"))
        self.assertEqual(server.metric("xchg_ready"), 0)
        with server.connect() as client:
            greet(client)  # everything else goes on
        self.assertEqual(server.ask("/ready?state=on", "POST").text, "on\n")
        self.assertEqual(server.ask("/readyz").status, 200)
        line = server.wait_line("command")
        self.assertEqual((line["command"], line["query"], line["uid"], line["pid"]),
                         ("/ready", "state=off", str(os.getuid()), str(os.getpid())))

    def test_log_level_falls_back(self):
        server = self.endpoint(XCHG_LOG_LEVEL="warn")
        self.assertEqual(server.ask("/log?level=info&for=1s", "POST").text, "info for 1s\n")
        begin = time.monotonic()
        server.wait_line("the log level is the configured one again")
        self.assertGreater(time.monotonic() - begin, 0.9)
        self.assertEqual(server.ask("/log?level=info", "POST").text, "info for 15m\n")
        self.assertEqual(server.wait_line("command", 1)["query"], "level=info")
        self.assertEqual(server.ask("/log?level=info&for=60m", "POST").text, "info for 60m\n")
        for query in ("level=info&for=1h", "level=info&for=61m", "level=info&for=1500ms", "level=all"):
            reply = server.ask(f"/log?{query}", "POST")
            self.assertEqual((reply.status, reply.text), (400, "level takes error, warn, info or debug; for takes 1s to 60m\n"), query)
        server.stop()
        self.assertEqual(len(server.messages("stopping")), 1)  # at info, which was not configured

    def test_close(self):
        for how, reason in (("", "finished"), ("&how=finish", "finished"), ("&how=abort", "error")):
            with self.subTest(how):
                server = self.endpoint(XCHG_WORKERS="1", XCHG_EXCHANGE="line")
                client = server.connect()
                deadline = time.monotonic() + LIMIT  # it may wait for its worker, which a walk does not see
                while not (found := json.loads(server.ask("/connections", unix=True).text)["connections"]):
                    self.assertLess(time.monotonic(), deadline)
                reply = server.ask(f"/close?id={found[0]['id']}{how}", "POST")
                self.assertEqual((reply.status, reply.text), (200, "ok\n"))
                self.assertEqual(receive_all(client), b"")
                client.close()
                self.assertEqual(ended(server.stop())[reason], 1)

    def test_close_by_the_id_of_a_log_line(self):
        """A line of the log names a connection as /connections and /close do."""
        server = self.endpoint(XCHG_LOG_LEVEL="debug", XCHG_WORKERS="2", XCHG_EXCHANGE="line")
        for _ in range(2):  # one of each worker: the ids of the second are the large ones
            with server.connect() as client:
                peer = "127.0.0.1:%d" % client.getsockname()[1]
                server.wait_for(lambda _, peer=peer: any(line["peer"] == peer for line in server.messages("opened")))
                (line,) = [line for line in server.messages("opened") if line["peer"] == peer]
                self.assertEqual(server.ask(f"/close?id={line['id']}", "POST").status, 200)
                self.assertEqual(receive_all(client), b"")

    def test_the_endpoints_own_connections_are_not_logged(self):
        """Their ids are those of another server: /close would take one for a connection of a client."""
        server = self.endpoint(XCHG_LOG_LEVEL="debug")
        for unix in (False, True):
            self.assertEqual(server.ask("/livez", unix=unix).status, 200)
        with server.connect() as client:
            greet(client)
        self.assertEqual(server.wait_line("closed")["reason"], "finished")
        server.stop()
        self.assertEqual((len(server.messages("opened")), len(server.messages("closed"))), (1, 1))

    def test_close_unknown(self):
        server = self.endpoint(XCHG_WORKERS="2")
        for text in ("0", "1", "ffffffffffffffff", "123456789abcdef"):
            reply = server.ask(f"/close?id={text}", "POST")
            self.assertEqual((reply.status, reply.text), (404, "gone\n"), text)

    def test_drain(self):
        server = self.endpoint(XCHG_EXCHANGE="line", XCHG_MESSAGES="0")
        client = server.connect()
        client.sendall(b"a\n")
        self.assertEqual(receive_exactly(client, 2), b"a\n")
        with server.unix_asker() as asker:
            reply = asker.ask("/drain", "POST", COMMAND)
            self.assertEqual((reply.status, reply.text), (202, "draining\n"))
        self.assertEqual(receive_all(client), b"")
        client.close()
        server.finish()
        self.assertEqual(len(server.messages("stopping")), 1)


class Trouble(AdminTest):
    def test_server_at_its_limit(self):
        server = self.endpoint(XCHG_MAX_CONNECTIONS="2")
        clients = [server.connect() for _ in range(5)]
        for client in clients[:2]:
            receive_exactly(client, len(GREETING))
        self.assertEqual(server.metric("xchg_connections_open"), 2)
        self.assertEqual(server.ask("/readyz").status, 200)  # its load does not move elsewhere
        self.assertEqual(server.ask("/livez").status, 200)
        for client in clients:
            client.close()

    def test_no_descriptors(self):
        """The connection that is open can be used while nothing else can be opened."""
        server = self.endpoint()
        with server.tcp_asker() as asker:
            self.assertEqual(asker.ask("/livez").status, 200)
            with server.limited(resource.RLIMIT_NOFILE, server.descriptors()):
                client = server.connect()
                server.wait_line("accepting pauses")
                deadline = time.monotonic() + LIMIT
                while "\nxchg_accept_paused 1\n" not in (text := asker.ask("/metrics").text):  # not while it tries again
                    self.assertLess(time.monotonic(), deadline)
                self.assertRegex(text, r"\nxchg_accept_pauses_total [1-9]")
                self.assertEqual(asker.ask("/livez").status, 200)
                self.assertEqual(asker.ask("/stats").status, 200)
            greet(client)
            client.close()

    def test_stalled_handler(self):
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        server = self.endpoint(XCHG_HANDLER=LATE, XCHG_STALL="1s", XCHG_WORKERS="1")
        client = server.connect()
        client.sendall(f"block {fifo}\n".encode())
        reply = server.wait_reply("/livez", lambda reply: reply.status == 503)
        self.assertRegex(reply.text, r"\Astalled xchg-work-0 [1-9]\d*s\n\Z")
        self.assertEqual(server.ask("/readyz").status, 200)
        self.assertGreaterEqual(server.metric('xchg_worker_turn_age_seconds{worker="0"}'), 1)
        with server.unix_asker() as asker:  # the worker does not answer
            self.assertEqual(asker.ask("/close?id=1", "POST", COMMAND).status, 503)
        os.close(os.open(fifo, os.O_WRONLY))
        self.assertEqual(receive_exactly(client, 8), b"blocked\n")
        server.wait_reply("/livez", lambda reply: reply.status == 200)
        client.close()
        server.stop()

    def test_stall_off(self):
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        server = self.endpoint(XCHG_HANDLER=LATE, XCHG_STALL="0", XCHG_WORKERS="1")
        client = server.connect()
        client.sendall(f"block {fifo}\n".encode())
        server.wait_reply("/metrics", lambda reply: re.search(r'turn_age_seconds{worker="0"} [1-9]', reply.text))
        self.assertEqual(server.ask("/livez").status, 200)
        os.close(os.open(fifo, os.O_WRONLY))
        receive_exactly(client, 8)
        client.close()

    def test_after_sigstop(self):
        """Every turn looks old once; the second look finds others."""
        server = self.endpoint(XCHG_STALL="1s", XCHG_EXCHANGE="echo")
        with server.connect() as client, server.tcp_asker() as asker:
            server.pause()
            client.sendall(b"a")
            asker.send(request("/livez"))
            time.sleep(1.2)  # the time that the process does not run
            server.resume()
            self.assertEqual(asker.reply().status, 200)

    def test_forking_beside_it(self):
        """Children keep no descriptor of the endpoint, and no fork leaves the log locked."""
        server = self.endpoint(XCHG_MODEL="fork", XCHG_LOG_LEVEL="debug")
        clients = [server.connect() for _ in range(4)]
        for client in clients:
            receive_exactly(client, len(GREETING))
        children = []
        for task in server.tasks():
            with open(f"/proc/{server.pid}/task/{task}/children") as pids:
                children += pids.read().split()
        self.assertEqual(len(children), 4)
        for pid in children:
            self.assertLessEqual(len(os.listdir(f"/proc/{pid}/fd")), 5)  # 3 standard ones, the connection, the stop
        for client in clients:
            client.close()
        with server.unix_asker() as asker:
            for i in range(100):
                asker.send(request("/ready?state=on", "POST", COMMAND) * 5)  # lines of the log
                with server.connect() as client:
                    greet(client)
                for _ in range(5):
                    self.assertEqual(asker.reply().status, 200)
        server.stop()


class Life(AdminTest):
    def test_nothing_without_the_variable(self):
        server = Server()
        self.addCleanup(server.__exit__)
        self.assertEqual([name for name in server.threads() if "adm" in name], [])
        self.assertEqual(server.messages("admin"), [])
        without = server.descriptors()
        server.stop()
        with_admin = self.endpoint(admin="127.0.0.1:0")
        self.assertEqual(sorted(name for name in with_admin.threads() if "adm" in name), ["xchg-adm", "xchg-adm-acc"])
        # a listener, two epoll sets, three eventfds, /proc/self/stat
        self.assertEqual(with_admin.descriptors(), without + 7)

    def test_memory(self):
        if INSTRUMENTED:
            self.skipTest("memory cannot be measured in this build")
        def resident(server):
            with server.connect() as client:
                greet(client)
            server.wait_stats(lambda stats: stats["open"] == 0)
            return server.memory_bytes("RssAnon")
        server = Server(XCHG_WORKERS="2")
        self.addCleanup(server.__exit__)
        with_admin = self.endpoint(XCHG_WORKERS="2")
        with with_admin.tcp_asker() as asker:
            asker.ask("/livez")
        self.assertLess(resident(with_admin) - resident(server), 1 << 20)

    def test_faults(self):
        result = run(XCHG_ADMIN="127.0.0.1:7000", XCHG_LISTEN=":7000")
        self.assertEqual(result.returncode, 78)
        self.assertIn("want other addresses than those of XCHG_LISTEN", result.stderr)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            result = run(XCHG_ADMIN=f"127.0.0.1:{port}", XCHG_LISTEN="127.0.0.1:0")
        self.assertEqual(result.returncode, 69)
        self.assertIn("cannot bind an address of XCHG_ADMIN", result.stderr)
        self.assertIn("or set XCHG_ADMIN to another port", result.stderr)
        self.assertNotIn("listening", result.stderr)

    def test_the_server_cannot_start(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            result = run(XCHG_LISTEN=f"127.0.0.1:{port}", XCHG_ADMIN=f"unix:{self.path()}")
        self.assertEqual(result.returncode, 69)
        self.assertFalse(os.path.exists(self.path()))

    def test_warnings(self):
        server = self.endpoint(admin=f":0,unix:{self.path()};mode=0666")
        lines = server.messages("the admin endpoint can be reached from other machines")
        self.assertEqual(len(lines), 1)
        self.assertEqual(len(server.messages("every user may give commands at the admin endpoint")), 1)
        quiet = Endpoint(self.path("quiet"))
        self.addCleanup(quiet.__exit__)
        self.assertEqual([line for line in quiet.remarks() if "level=warn" in line], [])

    def test_the_file_is_removed(self):
        server = self.endpoint()
        server.stop()
        self.assertFalse(os.path.exists(server.path))
        server = self.endpoint()
        server.process.send_signal(signal.SIGTERM)
        server.finish()
        self.assertFalse(os.path.exists(server.path))
