"""Goal: neither offloaded work nor a callback keeps the server from ending at XCHG_DRAIN_TIMEOUT (docs/reference.md,
Shutdown)."""

import contextlib
import os
import signal
import unittest

from clients import FolderTest, ended, serve
from fault_matrix import covers_fault
from test_handler import plugin
from xchgd import receive_exactly, reset

WORK, CALLBACK = "ending before offloaded work has ended", "ending while a callback blocks"
SECOND = "second signal: ending at once"


class Late(FolderTest):
    def late(self, **variables):
        """A server with tests/live/plugin/late.c at TCP and at a UNIX socket."""
        variables.setdefault("XCHG_STOP_GRACE", "0")
        return serve(XCHG_HANDLER=plugin("late"), XCHG_LISTEN=f"127.0.0.1:0,unix:{self.path()}", XCHG_WATCHDOG="0", **variables)

    def begin(self, server, what, stack):
        """A client whose work or callback waits until the returned descriptor is closed."""
        path = self.path(f"fifo{len(os.listdir(self.folder))}")
        os.mkfifo(path)
        client = stack.enter_context(server.connect())
        client.sendall(f"{what} {path}\n".encode())
        return client, os.open(path, os.O_WRONLY)  # returns once the other end is open

    def said(self, server):
        return [line for line in server.lines if line.startswith("late")]

    def test_work_that_never_ends(self):
        """The number of jobs that still run is logged, nothing of the handler is called any more, and the socket file is removed."""
        for count in (1, 3):
            with self.subTest(count), self.late(XCHG_DRAIN_TIMEOUT="1s", XCHG_OFFLOAD_THREADS="3") as server, \
                    contextlib.ExitStack() as stack:
                held = [self.begin(server, "work", stack)[1] for _ in range(count)]
                totals = server.stop()
                self.assertEqual([fields["jobs"] for fields in server.messages(WORK)], [str(count)])
                self.assertIn(WORK, server.lines[-1])  # after msg=stopped
                self.assertEqual(self.said(server), ["late work begins"] * count)
                self.assertEqual(ended(totals), {"drain": count})
                self.assertFalse(os.path.exists(self.path()))
                for fd in held:
                    os.close(fd)

    def test_work_for_a_client_that_has_left(self):
        """Work may use the drain timeout, and the stop then ends as usual."""
        with self.late(XCHG_DRAIN_TIMEOUT="5m") as server, contextlib.ExitStack() as stack:
            client, held = self.begin(server, "work", stack)
            reset(client)
            server.wait_stats(lambda stats: stats["open"] == 0)
            os.kill(server.pid, signal.SIGTERM)
            server.wait_line("stopping")
            os.close(held)
            server.finish()
            said = self.said(server)
            self.assertEqual(said[:2], ["late work begins", "late work ends"])
            self.assertEqual(sorted(said[2:]), ["late stops", "late work is done for nobody"])
            self.assertEqual(server.messages(WORK), [])

    def test_a_second_signal_ends_the_wait_for_work(self):
        with self.late(XCHG_DRAIN_TIMEOUT="5m") as server, contextlib.ExitStack() as stack:
            client, held = self.begin(server, "work", stack)
            reset(client)
            server.wait_stats(lambda stats: stats["open"] == 0)
            os.kill(server.pid, signal.SIGTERM)
            server.wait_line("stopping")
            os.kill(server.pid, signal.SIGINT)
            server.finish(expect=1)
            os.close(held)

    def test_work_that_ends_in_time_is_answered(self):
        with self.late(XCHG_DRAIN_TIMEOUT="5m") as server, contextlib.ExitStack() as stack:
            client, held = self.begin(server, "work", stack)
            os.kill(server.pid, signal.SIGTERM)
            server.wait_line("stopping")
            os.close(held)
            self.assertEqual(receive_exactly(client, 7), b"worked\n")
            client.close()
            server.finish()
            self.assertEqual(self.said(server), ["late work begins", "late work ends", "late work is done", "late stops"])

    @covers_fault(11)
    def test_a_callback_that_never_returns(self):
        """The server ends under every model. The connection of the callback is still open in the totals; the child of
        the fork model is killed and counted."""
        for model in ("pool", "iterative", "thread", "fork"):
            with self.subTest(model), self.late(XCHG_MODEL=model, XCHG_DRAIN_TIMEOUT="0", XCHG_WORKERS="2") as server, \
                    contextlib.ExitStack() as stack:
                _, held = self.begin(server, "block", stack)
                self.assertEqual(ended(server.stop()), {"error": 1} if model == "fork" else {"open": 1})
                self.assertEqual(len(server.messages(CALLBACK)), 0 if model == "fork" else 1)
                self.assertEqual(self.said(server)[:1], ["late callback begins"])
                self.assertEqual("late stops" in self.said(server), model == "fork")
                self.assertFalse(os.path.exists(self.path()))
                os.close(held)

    def stop_that_blocks(self, stack, model="pool"):
        """A server whose on_stop waits until the returned file is closed."""
        path = self.path(f"fifo{len(os.listdir(self.folder))}")
        os.mkfifo(path)
        server = stack.enter_context(self.late(LATE_STOP=path, XCHG_MODEL=model))
        os.kill(server.pid, signal.SIGTERM)
        held = stack.enter_context(open(path, "wb"))  # returns once on_stop has opened the other end
        server.wait_line("stopped")
        return server, held

    def test_a_second_signal_ends_a_blocked_on_stop(self):
        for model, signum in (("pool", signal.SIGINT), ("pool", signal.SIGQUIT), ("thread", signal.SIGINT), ("fork", signal.SIGINT)):
            with self.subTest(model, signal=signum), contextlib.ExitStack() as stack:
                server, _ = self.stop_that_blocks(stack, model)
                os.kill(server.pid, signum)
                server.finish(expect=1)
                self.assertEqual(len(server.messages(SECOND)), 1)
                self.assertEqual(self.said(server), ["late stops"])

    def test_other_signals_do_not_end_a_blocked_on_stop(self):
        """The handler's on_stop returns, and the server ends as usual."""
        with contextlib.ExitStack() as stack:
            server, held = self.stop_that_blocks(stack)
            for signum in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
                os.kill(server.pid, signum)
            held.close()
            server.finish()
            self.assertEqual(self.said(server), ["late stops", "late has stopped"])


if __name__ == "__main__":
    unittest.main()
