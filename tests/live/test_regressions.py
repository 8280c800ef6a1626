"""Goal: fixed bugs stay fixed. Each test describes its bug."""

import fcntl
import os
import socket
import subprocess
import tempfile
import time
import unittest

from fault_matrix import can_inject
from xchgd import LIMIT, PROGRAM, Server, environment, greet, strace


class UnixStart(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = os.path.join(self.folder.name, "socket")

    @can_inject
    def test_bound_is_not_stale(self):
        """Fixed: a second server replaced the socket file of a server that was bound and did not listen yet."""
        wrap = strace("listen:delay_enter=1000000", trace="listen")
        with Server(wrap=wrap, wait=False, XCHG_LISTEN=f"unix:{self.path}", XCHG_STOP_GRACE="0") as first:
            deadline = time.monotonic() + LIMIT
            while not os.path.exists(self.path):
                self.assertLess(time.monotonic(), deadline, "the first does not bind")
            second = subprocess.Popen([PROGRAM], env=environment(XCHG_LISTEN=f"unix:{self.path}"), stdin=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL)
            try:
                self.assertEqual(second.wait(LIMIT), 69)
            finally:
                second.kill()
                second.wait()
            first.wait_line("listening")
            with first.connect(address=f"unix:{self.path}") as client:
                greet(client)
            self.assertEqual(first.stop()["finished"], 1)

    def test_folder_is_locked(self):
        """Fixed: a lock that another process held on the folder kept a server from starting."""
        folder = os.open(self.folder.name, os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, folder)
        fcntl.flock(folder, fcntl.LOCK_EX)
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(self.path)
        with Server(XCHG_LISTEN=f"unix:{self.path}", XCHG_STOP_GRACE="0") as server:
            with server.connect() as client:
                greet(client)
            self.assertEqual(server.stop()["finished"], 1)
