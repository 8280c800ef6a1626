"""Goal: /connections shows what the clients themselves know of their connections: addresses, bytes, messages, ages, in each
order and by each filter, while a worker is blocked and while others ask (docs/reference.md, /connections)."""

import contextlib
import json
import os
import resource
import select
import signal
import threading
import time

from clients import FolderTest
from endpoint import Endpoint, request
from test_handler import plugin
from xchgd import LIMIT, PLAIN, TOP, receive_exactly

LATE = os.path.join(os.path.dirname(os.environ.get("XCHGD", os.path.join(TOP, "build", "xchgd"))), "tests/live/plugin/late.so")
ROW = ["id", "worker", "peer", "listener", "state", "age_ms", "idle_ms", "messages", "bytes_in", "bytes_out", "pending_bytes",
       "paused"]
MANY = 700 if PLAIN else 300  # more than one worker visits in a turn


def peer_of(client):
    host, port = client.getsockname()[:2]
    return f"{host}:{port}"


class ConnectionsTest(FolderTest):
    def endpoint(self, **variables):
        variables = {"XCHG_EXCHANGE": "echo", "XCHG_WORKERS": "2", "XCHG_STOP_GRACE": "0", "XCHG_IDLE_TIMEOUT": "0", **variables}
        server = Endpoint(self.path("admin"), **variables)
        self.addCleanup(server.__exit__)
        server.wait_reply("/readyz", lambda reply: reply.status == 200)
        return server

    def ask_once(self, server, query=""):
        reply = server.ask(f"/connections{query}", unix=True)
        self.assertEqual((reply.status, reply.fields["content-type"]), (200, "application/json"), reply)
        return json.loads(reply.text)

    def ask(self, server, query=""):
        """Ask until no worker is missing: on a busy machine one may need more than a second."""
        deadline = time.monotonic() + LIMIT
        while (answer := self.ask_once(server, query))["missing"]:
            self.assertLess(time.monotonic(), deadline)
        return answer

    def clients(self, server, count, stack):
        return [stack.enter_context(server.connect()) for _ in range(count)]


class Rows(ConnectionsTest):
    def test_an_announced_address(self):
        """Behind a proxy, peer is the client's address and via the proxy's. Without an announcement there is no via."""
        server = self.endpoint(XCHG_LISTEN="127.0.0.1:0;proxy=v1", XCHG_PROXY_TRUST="127.0.0.1")
        with server.connect() as proxied, server.connect() as unknown:
            for client, header in ((proxied, b"PROXY TCP4 192.0.2.1 198.51.100.1 1111 2222\r\n"), (unknown, b"PROXY UNKNOWN\r\n")):
                client.sendall(header + b"x")
                self.assertEqual(receive_exactly(client, 1), b"x")
            rows = {row["peer"]: row for row in self.ask(server)["connections"]}
            self.assertEqual(rows["192.0.2.1:1111"]["via"], peer_of(proxied))
            self.assertNotIn("via", rows[peer_of(unknown)])

    def unique_ids(self, **variables):
        """Those shown of two clients behind a proxy, of which one has an id."""
        signature, tcp4 = b"\r\n\r\n\0\r\nQUIT\n", bytes((192, 0, 2, 1, 198, 51, 100, 1, 4, 87, 8, 174))
        server = self.endpoint(XCHG_LISTEN="127.0.0.1:0;proxy=v2", XCHG_PROXY_TRUST="127.0.0.1", **variables)
        with server.connect() as named, server.connect() as unnamed:
            for client, unique in ((named, b'a "b"\\\0\xff'), (unnamed, None)):
                tlv = b"" if unique is None else b"\x05" + len(unique).to_bytes(2, "big") + unique
                client.sendall(signature + b"\x21\x11" + (len(tcp4) + len(tlv)).to_bytes(2, "big") + tcp4 + tlv)
            deadline = time.monotonic() + LIMIT
            while [row["state"] for row in self.ask(server)["connections"]] != ["open", "open"]:
                self.assertLess(time.monotonic(), deadline)
            return [row["unique_id"] for row in self.ask(server)["connections"] if "unique_id" in row]

    def test_a_unique_id(self):
        self.assertEqual(self.unique_ids(XCHG_HANDLER=plugin("proxy"), XCHG_EXCHANGE=None), ['a "b"\\x5c\\x00\\xff'])

    def test_a_unique_id_that_is_not_kept(self):
        """The handler does not set proxy_tlvs."""
        self.assertEqual(self.unique_ids(), [])

    def test_each_client_has_a_row(self):
        """Each row says what its client has sent and received."""
        server = self.endpoint()
        with contextlib.ExitStack() as stack:
            clients = self.clients(server, 20, stack)
            before = time.monotonic()
            for number, client in enumerate(clients):
                for _ in range(number):
                    client.sendall(b"x" * number + b"\0")
                    receive_exactly(client, number + 1)
            answer = self.ask(server)
            took_ms = (time.monotonic() - before) * 1000 + 1
            self.assertEqual((answer["schema"], answer["seen"], answer["matched"], answer["missing"]), (1, 20, 20, []))
            rows = {row["peer"]: row for row in answer["connections"]}
            self.assertEqual(len(rows), 20)
            for number, client in enumerate(clients):
                row = rows[peer_of(client)]
                self.assertEqual(list(row), ROW)
                self.assertRegex(row["id"], "^[0-9a-f]{16}$")
                count = number * (number + 1)
                self.assertEqual((row["messages"], row["bytes_in"], row["bytes_out"]), (number, count, count))
                self.assertEqual((row["pending_bytes"], row["state"], row["paused"]), (0, "open", False))
                self.assertEqual(row["listener"], server.addresses[0])
                self.assertGreaterEqual(row["age_ms"], row["idle_ms"])
                if number > 0:
                    self.assertLessEqual(row["idle_ms"], took_ms)
            self.assertEqual({row["worker"] for row in rows.values()}, {0, 1})
            ids = {row["id"] for row in rows.values()}
            self.assertEqual(len(ids), 20)
            # The first hexadecimal digit of two workers' ids is 0 to 7, or 8 to f.
            self.assertTrue(all((row["id"][0] >= "8") == (row["worker"] == 1) for row in rows.values()))
            self.assertEqual(sum(row["bytes_in"] for row in rows.values()), server.metric("xchg_received_bytes_total"))
            self.assertEqual(sum(row["bytes_out"] for row in rows.values()), server.metric("xchg_sent_bytes_total"))
        server.stop()

    def test_no_connection(self):
        server = self.endpoint()
        self.assertEqual(self.ask(server), {"schema": 1, "sort": "age", "seen": 0, "matched": 0, "missing": [], "connections": []})
        with server.connect() as client:
            client.sendall(b"x\0")
            receive_exactly(client, 2)
            self.assertEqual(self.ask(server)["seen"], 1)
        server.wait_reply("/stats", lambda reply: json.loads(reply.text)["open"] == 0)
        self.assertEqual(self.ask(server)["connections"], [])
        server.stop()

    def test_listeners_and_unix_peers(self):
        """A row names the listener, and a client of a UNIX socket is in no block of addresses."""
        path = self.path("data")
        server = self.endpoint(XCHG_LISTEN=f"127.0.0.1:0,unix:{path},[::1]:0")
        with server.connect() as first, self.unix_client(path) as second, server.connect(address=server.addresses[2]) as third:
            for client in (first, second, third):
                client.sendall(b"x\0")
                receive_exactly(client, 2)
            rows = {row["listener"]: row["peer"].rsplit(":", 1)[0] for row in self.ask(server)["connections"]}
            self.assertEqual(rows, {server.addresses[0]: "127.0.0.1", f"unix:{path}": "unix", server.addresses[2]: "[::1]"})
            for block, count in (("127.0.0.1", 1), ("127.0.0.0/8", 1), ("::/0", 1), ("0.0.0.0/0", 1), ("10.0.0.0/8", 0)):
                answer = self.ask(server, f"?peer={block}")
                self.assertEqual((answer["seen"], answer["matched"], len(answer["connections"])), (3, count, count), block)
        server.stop()

    def test_orders_and_bounds_of_many(self):
        """The first n in each order are those of all rows sorted; each connection is there once."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) +
                           resource.getrlimit(resource.RLIMIT_NOFILE)[1:])
        server = self.endpoint(XCHG_MAX_CONNECTIONS="2000")
        keys = {"age": "age_ms", "idle": "idle_ms", "in": "bytes_in", "out": "bytes_out", "pending": "pending_bytes"}
        with contextlib.ExitStack() as stack:
            clients = self.clients(server, MANY, stack)
            for number, client in enumerate(clients):
                client.sendall(b"x" * (number * 7919 % 1000) + b"\0")
            for number, client in enumerate(clients):
                receive_exactly(client, number * 7919 % 1000 + 1)
            everything = self.ask(server, "?n=1000")
            self.assertEqual((everything["seen"], everything["matched"], len(everything["connections"])), (MANY, MANY, MANY))
            self.assertEqual({row["peer"] for row in everything["connections"]}, {peer_of(client) for client in clients})
            for sort, key in keys.items():
                answer = self.ask(server, f"?n=50&sort={sort}")
                self.assertEqual((answer["sort"], answer["seen"], len(answer["connections"])), (sort, MANY, 50))
                values = [row[key] for row in answer["connections"]]
                self.assertEqual(values, sorted(values, reverse=True), sort)
                if sort in ("in", "out"):  # these do not change between the answers
                    self.assertEqual(values, sorted((row[key] for row in everything["connections"]), reverse=True)[:50])
            self.assertEqual(len(self.ask(server)["connections"]), 100)
            halves = [self.ask(server, f"?n=1000&worker={worker}") for worker in (0, 1)]
            self.assertEqual(sum(half["seen"] for half in halves), MANY)
            for worker, half in enumerate(halves):
                self.assertEqual({row["worker"] for row in half["connections"]}, {worker})
            old = everything["connections"][0]["age_ms"]
            self.assertEqual(self.ask(server, f"?min_age={old + 60000}ms")["matched"], 0)
            self.assertEqual(self.ask(server, "?min_age=0")["matched"], MANY)
        server.stop()

    def test_while_clients_come_and_go(self):
        """A connection that stays is in each answer exactly once, whatever others do."""
        server = self.endpoint(XCHG_MAX_CONNECTIONS="2000")
        over = threading.Event()
        failures = []

        def come_and_go():
            try:
                while not over.is_set():
                    with contextlib.ExitStack() as stack:
                        clients = self.clients(server, 20, stack)
                        for client in clients:
                            client.sendall(b"x\0")
                        for client in clients[::2]:
                            receive_exactly(client, 2)
            except OSError as failure:
                failures.append(failure)

        with contextlib.ExitStack() as stack:
            stay = self.clients(server, 300, stack)
            for client in stay:
                client.sendall(b"stay\0")
            for client in stay:
                receive_exactly(client, 5)
            threads = [threading.Thread(target=come_and_go, daemon=True) for _ in range(2)]
            for thread in threads:
                thread.start()
            peers = {peer_of(client) for client in stay}
            for sort in ("age", "in", "idle", "pending", "out") * (8 if PLAIN else 2):
                answer = self.ask(server, f"?n=1000&sort={sort}")
                rows = answer["connections"]
                self.assertEqual(len(rows), answer["seen"])
                self.assertEqual(len({row["id"] for row in rows}), len(rows))
                stayed = [row for row in rows if row["bytes_in"] == 5]
                self.assertEqual({row["peer"] for row in stayed}, peers)
                others = {(row["bytes_in"], row["bytes_out"]) for row in rows if row["bytes_in"] != 5}
                self.assertLessEqual(others, {(0, 0), (2, 0), (2, 2)})
            over.set()
            for thread in threads:
                thread.join(LIMIT)
        self.assertEqual(failures, [])
        server.stop()

    def test_states_and_pending_bytes(self):
        """open, draining and ending; what a client does not read is pending."""
        server = self.endpoint(XCHG_EXCHANGE="line", XCHG_MESSAGES="0", XCHG_MESSAGE_TIMEOUT="0", XCHG_WRITE_TIMEOUT="0",
                               XCHG_DRAIN_TIMEOUT="60s", XCHG_LINGER="60s", XCHG_SNDBUF="64KiB", XCHG_MAX_PENDING="64KiB")
        with server.connect() as half, server.connect(rcvbuf=4096) as full:
            half.sendall(b"one\ntwo")
            self.assertEqual(receive_exactly(half, 4), b"one\n")
            full.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                while True:
                    full.sendall(b"y" * 999 + b"\n")
            rows = {row["peer"]: row for row in self.ask(server, "?sort=pending")["connections"]}
            self.assertEqual(list(rows), [peer_of(full), peer_of(half)])
            self.assertGreaterEqual(rows[peer_of(full)]["pending_bytes"], 64 * 1024)
            self.assertEqual((rows[peer_of(half)]["bytes_in"], rows[peer_of(half)]["messages"]), (7, 1))
            self.assertEqual(self.ask(server, "?state=open")["matched"], 2)
            self.assertEqual(server.ask("/drain", "POST").status, 202)
            deadline = time.monotonic() + LIMIT
            while self.ask(server, "?state=draining")["matched"] < 1:
                self.assertLess(time.monotonic(), deadline)
            rows = {row["peer"]: row["state"] for row in self.ask(server)["connections"]}
            self.assertEqual(rows[peer_of(half)], "draining")
            self.assertEqual(self.ask(server, "?state=open")["matched"], 0)
            half.sendall(b"\n")
            self.assertEqual(receive_exactly(half, 4), b"two\n")
            deadline = time.monotonic() + LIMIT
            while self.ask(server, "?state=ending")["matched"] < 1:  # the peer's end is awaited
                self.assertLess(time.monotonic(), deadline)
        server.finish()


class Refusals(ConnectionsTest):
    def test_bad_queries(self):
        server = self.endpoint()
        for query in ("n=0", "n=1001", "n=x", "worker=-1", "worker=2", "state=closed", "sort=name", "min_age=10", "peer=x", "what=1",
                      "n=1&n=1", "&"):
            with self.subTest(query):
                reply = server.ask(f"/connections?{query}", unix=True)
                self.assertEqual(reply.status, 400)
                self.assertRegex(reply.text, "^[ -~]+\n$")
        self.assertEqual(server.ask("/connections?", unix=True).status, 200)
        server.stop()

    def test_guards(self):
        """Addresses of clients are for the UNIX socket only."""
        server = self.endpoint()
        self.assertEqual(server.ask("/connections").status, 403)
        self.assertEqual(server.ask("/connections", unix=True, host="www.example.org").status, 403)
        self.assertEqual(server.ask("/connections", "POST").status, 405)
        with server.unix_asker() as asker:
            head = asker.ask("/connections", "HEAD")
            self.assertEqual((head.status, head.body), (200, b""))
            self.assertEqual(asker.ask("/livez").text, "ok\n")
        server.stop()

    def test_other_models(self):
        for model in ("iterative", "thread", "fork"):
            with self.subTest(model):
                server = self.endpoint(XCHG_MODEL=model, XCHG_WORKERS=None)
                self.assertEqual(server.ask("/connections", unix=True).status, 501)
                server.stop()


class Late(ConnectionsTest):
    """A worker that a handler blocks."""

    def blocked(self, stack):
        """A server with two clients, of which one blocks its worker; the FIFO's end that unblocks it; their rows."""
        server = self.endpoint(XCHG_EXCHANGE=None, XCHG_HANDLER=LATE, XCHG_WATCHDOG="0", XCHG_MESSAGE_TIMEOUT="0")
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        clients = self.clients(server, 2, stack)
        deadline = time.monotonic() + LIMIT
        while self.ask(server)["seen"] < 2:
            self.assertLess(time.monotonic(), deadline)
        rows = {row["peer"]: row for row in self.ask(server)["connections"]}
        self.assertEqual(rows[peer_of(clients[0])]["worker"], 1 - rows[peer_of(clients[1])]["worker"])
        clients[0].sendall(f"block {fifo}\n".encode())
        end = open(fifo, "wb")  # waits until the callback reads
        stack.callback(end.close)
        return server, clients, end, rows

    def test_a_blocked_worker_is_missing(self):
        with contextlib.ExitStack() as stack:
            server, clients, end, rows = self.blocked(stack)
            blocked = rows[peer_of(clients[0])]["worker"]
            for _ in range(3):  # the first waits for a second, the others know
                answer = self.ask_once(server)
                self.assertEqual((answer["missing"], answer["seen"]), ([blocked], 1))
                self.assertEqual(answer["connections"][0]["id"], rows[peer_of(clients[1])]["id"])
            self.assertEqual(self.ask(server, f"?worker={1 - blocked}")["seen"], 1)
            answer = self.ask_once(server, f"?worker={blocked}")
            self.assertEqual((answer["missing"], answer["seen"]), ([blocked], 0))
            end.close()
            self.assertEqual(receive_exactly(clients[0], 8), b"blocked\n")
            self.assertEqual(self.ask(server)["seen"], 2)  # it takes the old visit first
        server.stop()

    def two_askers(self, server, stack):
        """Two ask at the same time. Return: the one that is refused at once, and the one whose walk waits."""
        askers = [stack.enter_context(server.unix_asker()) for _ in range(2)]
        server.pause()
        for asker in askers:
            asker.send(request("/connections") + request("/livez"))
        server.resume()
        sockets = [asker.socket for asker in askers]
        readable, _, _ = select.select(sockets, [], [], LIMIT)
        return sorted(askers, key=lambda asker: asker.socket not in readable)

    def test_a_second_asker_gets_busy(self):
        with contextlib.ExitStack() as stack:
            server, _, end, _ = self.blocked(stack)
            refused, waiting = self.two_askers(server, stack)
            reply = refused.reply()
            self.assertEqual((reply.status, reply.text), (503, "busy\n"))
            self.assertEqual(json.loads(waiting.reply().text)["seen"], 1)
            for asker in (refused, waiting):
                self.assertEqual(asker.reply().text, "ok\n")  # it has waited behind
            end.close()
        server.stop()

    def test_the_asker_leaves(self):
        """Its walk is over, although the blocked worker has not answered."""
        with contextlib.ExitStack() as stack:
            server, clients, end, _ = self.blocked(stack)
            refused, waiting = self.two_askers(server, stack)
            self.assertEqual(refused.reply().status, 503)
            self.assertEqual(refused.reply().status, 200)
            waiting.socket.close()  # what it has sent is served: no one reads the answer
            deadline = time.monotonic() + LIMIT
            while refused.ask("/connections").status != 200:
                self.assertLess(time.monotonic(), deadline)
            end.close()
            self.assertEqual(receive_exactly(clients[0], 8), b"blocked\n")
        server.stop()

    def test_paused_connections(self):
        """A connection whose handler waits for offloaded work is paused."""
        server = self.endpoint(XCHG_EXCHANGE=None, XCHG_HANDLER=LATE, XCHG_MESSAGE_TIMEOUT="0")
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        with server.connect() as client:
            client.sendall(f"work {fifo}\n".encode())
            with open(fifo, "wb"):  # waits until the work reads
                rows = {row["peer"]: row["paused"] for row in self.ask(server)["connections"]}
                self.assertEqual(rows, {peer_of(client): True})
            self.assertEqual(receive_exactly(client, 7), b"worked\n")
            self.assertFalse(any(row["paused"] for row in self.ask(server)["connections"]))
        server.stop()

    def test_a_stop_while_a_walk_waits(self):
        """The endpoint and the server end together, and with the blocked worker."""
        with contextlib.ExitStack() as stack:
            server, _, end, _ = self.blocked(stack)
            asker = stack.enter_context(server.unix_asker())
            asker.send(request("/connections"))
            server.process.send_signal(signal.SIGTERM)
            server.wait_line("stopping")
            end.close()
            server.finish()
