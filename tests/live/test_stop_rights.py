"""Goal: a stop loses no client, whatever the rights of the server are (docs/tuning.md, Stop without privileges).

The servers run as this user, as an unprivileged user without capabilities, and as root with the default capabilities of a container.
The latter two need root. A system call filter refuses what a container's filter may refuse.
"""

import ctypes
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import unittest

import test_network
import test_stop
from fault_matrix import LIBC, covers_fault
from xchgd import PROGRAM, WRAP, Server, greet, receive_exactly

NOBODY = 65534
CONTAINER = ("chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,mknod,audit_write,"
             "setfcap").split(",")  # what Docker grants by default
NO_RIGHTS = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
DEFAULT_RIGHTS = ["setpriv", "--inh-caps=-all", "--bounding-set=-all," + ",".join(f"+{name}" for name in CONTAINER)]

SO_ATTACH_FILTER, SO_BINDTOIFINDEX = 26, 62
NOWHERE = 2147483632  # an index that no network interface has
SETSOCKOPT = {"x86_64": 54, "aarch64": 208}.get(platform.machine())
PIDFD_GETFD = 438  # on every machine
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
WARNING = "cannot refuse new clients: one that connects now can be lost; CAP_NET_ADMIN permits it"


def is_permitted(command):
    """Can a server be started behind this command?"""
    try:
        return subprocess.run([*command, "test", "-x", PROGRAM], stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def identities():
    """The command before the server, by a name."""
    found = {"this user": [], "this user with its capabilities": ["env", "XCHG_SANDBOX=off"]}
    for name, command in (("a user without capabilities", NO_RIGHTS), ("a container's root", DEFAULT_RIGHTS)):
        if is_permitted(command):
            found[name] = command
        else:
            print(f"{name} ... skipped 'needs root and a program that other users can execute'", file=sys.stderr)
    return found


def refuse_options(*names):
    """A preexec that installs a system call filter: setsockopt of these options of SOL_SOCKET fails with EPERM."""
    load, equal, give = 0x20, 0x15, 0x06  # BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K
    allow, refuse = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | EPERM
    count = len(names)
    lines = [(load, 0, 0, 0), (equal, 0, count + 3, SETSOCKOPT), (load, 0, 0, 24), (equal, 0, count + 1, socket.SOL_SOCKET), (load, 0, 0, 32)]
    lines += [(equal, count - i, 0, name) for i, name in enumerate(names)]
    lines += [(give, 0, 0, allow), (give, 0, 0, refuse)]
    text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(lines), ctypes.addressof(text)))

    def install():
        if LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 or LIBC.prctl(PR_SET_SECCOMP, 2, program, 0, 0) == -1:
            raise OSError(ctypes.get_errno(), "no system call filter")
        assert text  # it must live as long as the program
    return install


def make_sockets_blocking(server):
    """Clear O_NONBLOCK of each socket of the server, as a process that shares them can do, by pidfd_getfd(2)."""
    pidfd = os.pidfd_open(server.pid)
    try:
        for name in os.listdir(f"/proc/{server.pid}/fd"):
            if os.readlink(f"/proc/{server.pid}/fd/{name}").startswith("socket:"):
                fd = LIBC.syscall(PIDFD_GETFD, pidfd, int(name), 0)
                if fd == -1:
                    raise unittest.SkipTest(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
                os.set_blocking(fd, True)
                os.close(fd)
    finally:
        os.close(pidfd)


class Rights(test_stop.Case):
    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o777)  # for the other users
        os.chmod(self.notify.address, 0o777)

    def kept_out(self, server):
        """Wait until the server completes no handshake. Returns how it keeps clients out."""
        while True:
            with socket.socket() as probe:
                probe.settimeout(0.3)
                try:
                    probe.connect(("127.0.0.1", server.port))
                except TimeoutError:
                    return "unanswered"
                except ConnectionRefusedError:
                    return "refused"

    def stop_half_open(self, server):
        """Clients whose handshake is in progress at the stop are served."""
        clients = [server.connect() for _ in range(5)]
        self.assertEqual(test_network.states(server.port).get(test_network.SYN_RECV), 5)
        self.begin(server)
        way = self.kept_out(server)
        for client in clients:
            client.sendall(b"hello\n")  # completes the handshake
        for client in clients:
            self.assertEqual(receive_exactly(client, 6), b"hello\n")
            client.close()
        self.assertEqual(server.finish()["messages"], 5)
        return way


@covers_fault(38)
class Stop(Rights):
    def test_under_load(self):
        """Stops under forty clients that connect, talk and close lose none."""
        for name, command in identities().items():
            for i in range(2 if WRAP else 5):
                with self.subTest(name, i=i), Server(wrap=command) as server:
                    load = test_stop.Load(server.addresses[0])
                    load.until(lambda: load.done >= 100 + 31 * i)
                    server.process.send_signal(signal.SIGTERM)
                    load.until(lambda: server.process.poll() is not None)
                    load.end()
                    totals = server.finish()
                    self.assertEqual((load.lost, server.remarks()), ([], []))
                    self.assertEqual((totals["accepted"], totals["finished"]), (load.done, load.done))

    def test_half_open(self):
        """Handshakes in progress complete within the grace, and no new one does. (A deferred accept keeps a handshake
        open until the client speaks.)"""
        for name, command in identities().items():
            with self.subTest(name):
                server = self.server(wrap=command, XCHG_EXCHANGE="line", XCHG_DEFER_ACCEPT="60", XCHG_STOP_GRACE="3s")
                self.stop_half_open(server)
                self.assertEqual(server.remarks(), [])

    def test_unix(self):
        """A UNIX listener needs no rights."""
        for name, command in identities().items():
            with self.subTest(name):
                server = self.server(wrap=command, XCHG_LISTEN=f"unix:{self.folder}/socket;mode=0666")
                server.pause()
                clients = [server.connect() for _ in range(5)]
                server.process.send_signal(signal.SIGTERM)
                server.resume()
                for client in clients:
                    greet(client)
                    client.close()
                self.assertEqual(server.finish()["finished"], 5)
                self.assertEqual((server.remarks(), os.listdir(self.folder)), ([], ["notify"]))

    def test_passed(self):
        """A passed listener is left as it was."""
        for name, command in identities().items():
            with self.subTest(name), socket.create_server(("127.0.0.1", 0)) as listener:
                server = self.server(wrap=command, activate=[listener])
                with server.connect() as client:
                    greet(client)
                server.stop()
                self.assertEqual(listener.getsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX), 0)
                self.assertEqual(server.remarks(), [])
                with server.connect():
                    pass


@covers_fault(38)
@unittest.skipUnless(SETSOCKOPT, "no number of setsockopt for this machine")
class Refused(Rights):
    def stop(self, *names):
        server = self.server(preexec=refuse_options(*names), XCHG_EXCHANGE="line", XCHG_DEFER_ACCEPT="60", XCHG_STOP_GRACE="2s")
        return self.stop_half_open(server), server.remarks()

    def test_filter(self):
        """Without the filter new clients are refused at once, and nothing is logged."""
        self.assertEqual(self.stop(SO_ATTACH_FILTER), ("refused", []))

    def test_both(self):
        """If every way is refused, one line names the listener, the promise that does not hold, and the missing right.
        The clients before the stop are served."""
        server = self.server(preexec=refuse_options(SO_ATTACH_FILTER, SO_BINDTOIFINDEX))
        server.pause()
        clients = [server.connect() for _ in range(5)]
        server.process.send_signal(signal.SIGTERM)
        server.resume()
        for client in clients:
            greet(client)
            client.close()
        self.assertEqual(server.finish()["finished"], 5)
        warned = server.messages(WARNING)
        self.assertEqual([(line["level"], line["addr"], line["error"]) for line in warned],
                         [("warn", server.addresses[0], "Operation not permitted")])

    def test_bound(self):
        """A server whose accept cannot be bounded says so at the start, and serves."""
        server = self.server(preexec=refuse_options(socket.SO_RCVTIMEO))
        said = server.messages("cannot bound a blocking accept: a process that shares it can delay the stop")
        self.assertEqual([line["addr"] for line in said], ["127.0.0.1:0"])  # not bound yet
        with server.connect() as client:
            greet(client)
        server.stop()


class Passed(unittest.TestCase):
    def test_without_an_interface(self):
        """A passed listener that is bound to a network interface that does not exist is refused by name."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, NOWHERE)
            with Server(activate=[listener], wait=False) as server:
                server.finish(expect=71)
                [line] = server.messages("a descriptor passed by LISTEN_FDS is bound to a network interface that does not "
                                         "exist; pass a new socket")
                self.assertEqual((line["level"], line["fd"]), ("error", "3"))


class Shared(test_stop.Case):
    """Another process clears O_NONBLOCK of a socket that it shares with the server."""

    def check_stop(self, server, make_blocking):
        """All clients are served, and a stop is heard."""
        make_blocking()
        for _ in range(9):  # after eight single clients the acceptor looks for a second one
            with server.connect() as client:
                greet(client)
        self.begin(server)
        self.assertEqual(server.finish()["finished"], 9)

    def test_passed_listener(self):
        """The passer clears it."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = self.server(activate=[listener])
            self.check_stop(server, lambda: os.set_blocking(listener.fileno(), True))

    def test_passed_unix_listener(self):
        """The same for a UNIX socket."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{self.folder}/socket")
            listener.listen()
            server = self.server(activate=[listener])
            self.check_stop(server, lambda: os.set_blocking(listener.fileno(), True))

    def test_own_listener(self):
        """A child that a handler has forked shares the listener, too."""
        server = self.server()
        self.check_stop(server, lambda: make_sockets_blocking(server))

    def test_connections(self):
        """A child shares the connections: a client that does not read keeps no other one waiting."""
        server = self.server(XCHG_EXCHANGE="echo", XCHG_WORKERS="1", XCHG_DRAIN_TIMEOUT="1s")
        with server.connect(rcvbuf=4096) as deaf, server.connect() as good:
            server.wait_stats(lambda s: s["open"] == 2)
            make_sockets_blocking(server)
            deaf.setblocking(False)
            for _ in range(20):
                self.fill(deaf)
                good.sendall(b"x")
                self.assertEqual(receive_exactly(good, 1), b"x")
            server.stop()

    def fill(self, client):
        try:
            while True:
                client.send(bytes(65536))
        except BlockingIOError:
            pass
