"""Goal: no thread that serves waits for standard error, and no write to it ends or stops the process, whatever it is.

Each stream below takes no line, or raises a signal. Under each of them xchgd and a program with xchg_main serve, answer
signals and stop, and xchgd reports a configuration fault with its exit code. Signals have their default effect.
"""

import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import termios
import time
import tty
import unittest

from clients import FolderTest
from fault_matrix import covers_fault
from xchgd import LIMIT, PROGRAM, WRAP, Notify, Server, environment, receive_exactly, strace

EXAMPLE = os.path.join(os.path.dirname(PROGRAM), "examples", "echo")  # it calls xchg_main
ECHO = {"XCHG_EXCHANGE": "echo", "XCHG_STOP_GRACE": "0"}
# Without this capability root, too, cannot open a file whose mode is 0.
NO_RIGHTS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
FILE_BYTES = 4096

# Becomes the leader of a session on the terminal argv[1], and starts argv[2:] as a background job of it. Prints the job's
# id and exits with its code, or says that the job was stopped.
BACKGROUND = """import fcntl, os, sys, termios
os.setsid()
terminal = int(sys.argv[1])
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    os.dup2(terminal, 2)
    os.close(terminal)
    os.execvp(sys.argv[2], sys.argv[2:])
print(job, flush=True)
_, status = os.waitpid(job, os.WUNTRACED)
if os.WIFSTOPPED(status):
    os.kill(job, 9)
    sys.exit("stopped by signal %d" % os.WSTOPSIG(status))
sys.exit(os.waitstatus_to_exitcode(status) % 256)
"""


class Streams(FolderTest):
    """The streams. Each is what Server takes: a descriptor, and a wrap or what runs before the program."""

    def path(self, name="socket"):
        """A path in a folder that each stream has for itself."""
        return os.path.join(self.folder, str(self.count), name)

    def next_folder(self):
        self.count += 1
        os.mkdir(self.path(""))

    def setUp(self):
        super().setUp()
        self.count = 0
        self.next_folder()

    def terminal(self, lflag=0):
        """The ends of a raw terminal that is not read."""
        master, slave = os.openpty()
        self.addCleanup(os.close, slave)
        tty.setraw(slave)
        attributes = termios.tcgetattr(slave)
        attributes[3] |= lflag
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        return master, slave

    def unread_terminal(self):
        master, slave = self.terminal()
        self.addCleanup(os.close, master)
        return {"stderr": slave}

    def stopped_terminal(self):
        """A user has pressed Control-S."""
        stream = self.unread_terminal()
        termios.tcflow(stream["stderr"], termios.TCOOFF)
        return stream

    def closed_terminal(self):
        master, slave = self.terminal()
        os.close(master)
        return {"stderr": slave}

    def others_terminal(self):
        """A terminal that the program may write to but not open, such as that of another user."""
        stream = self.unread_terminal()
        os.fchmod(stream["stderr"], 0)
        return {**stream, "wrap": NO_RIGHTS}

    def fill(self, fd):
        """Write until nothing more fits."""
        os.set_blocking(fd, False)
        for size in (4096, 1):
            try:
                while True:
                    os.write(fd, size * b"\n")
            except BlockingIOError:
                pass
        os.set_blocking(fd, True)

    def full_pipe(self):
        read_end, write_end = os.pipe()
        self.addCleanup(os.close, read_end)
        self.addCleanup(os.close, write_end)
        self.fill(write_end)
        return {"stderr": write_end}

    def others_pipe(self):
        """A full pipe that the program may not open again, such as one that another user has made."""
        os.mkfifo(self.path("pipe"))
        read_end = os.open(self.path("pipe"), os.O_RDONLY | os.O_NONBLOCK)
        write_end = os.open(self.path("pipe"), os.O_WRONLY)
        self.addCleanup(os.close, read_end)
        self.addCleanup(os.close, write_end)
        self.fill(write_end)
        os.fchmod(write_end, 0)
        os.unlink(self.path("pipe"))
        return {"stderr": write_end, "wrap": NO_RIGHTS}

    def pipe_without_reader(self):
        read_end, write_end = os.pipe()
        os.close(read_end)
        self.addCleanup(os.close, write_end)
        return {"stderr": write_end, "preexec": lambda: signal.signal(signal.SIGPIPE, signal.SIG_DFL)}

    def full_socket(self):
        left, right = socket.socketpair()
        self.addCleanup(left.close)
        self.addCleanup(right.close)
        self.fill(right.fileno())
        return {"stderr": right.fileno()}

    def full_disk(self):
        fd = os.open("/dev/full", os.O_WRONLY)
        self.addCleanup(os.close, fd)
        return {"stderr": fd}

    def file(self):
        fd = os.open(self.path("log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.addCleanup(os.close, fd)
        return fd

    def file_at_its_limit(self):
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
            resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
        fd = self.file()
        os.ftruncate(fd, FILE_BYTES - 20)  # the first line does not fit whole
        return {"stderr": fd, "preexec": limit}

    def closed(self):
        return {"stderr": subprocess.DEVNULL, "preexec": lambda: os.close(2)}

    def streams(self):
        """The name of each stream, and what makes it."""
        names = ["unread_terminal", "stopped_terminal", "closed_terminal", "others_terminal", "full_pipe", "others_pipe",
                 "pipe_without_reader", "full_socket", "full_disk", "file_at_its_limit", "closed"]
        for name in names:
            self.next_folder()
            yield name, getattr(self, name)


class Serving(Streams):
    def wait_handled(self, server, signum):
        """Wait until the signal is no longer pending: the main thread has read it."""
        deadline = time.monotonic() + LIMIT
        while True:
            with open(f"/proc/{server.pid}/status") as status:
                pending = [int(line.split()[1], 16) for line in status if line.startswith(("SigPnd:", "ShdPnd:"))]
            if not any(mask >> (signum - 1) & 1 for mask in pending):
                return
            self.assertLess(time.monotonic(), deadline, f"signal {signum} is not handled")
            time.sleep(0.001)  # the pace of the looks

    def wait_for_state(self, server, state):
        """Wait until the main thread is in this state of proc(5)."""
        deadline = time.monotonic() + LIMIT
        while True:
            with open(f"/proc/{server.pid}/stat") as f:
                if f.read().rsplit(")", 1)[1].split()[0] == state:
                    return
            self.assertLess(time.monotonic(), deadline, f"the main thread never comes to {state}")
            time.sleep(0.001)  # the pace of the looks

    def serve(self, stream, program=PROGRAM, **variables):
        """Start a server on the stream, and let it write many lines. Yields it and a client, which is answered."""
        with Notify(self.path("")) as notify, Server(program=program, NOTIFY_SOCKET=notify.address, XCHG_LOG_LEVEL="debug",
                                                   XCHG_LISTEN=f"unix:{self.path()}", **{**stream, **variables}) as server:
            notify.wait("READY=1")
            client = self.unix_client(self.path())
            for i in range(30):
                server.process.send_signal(signal.SIGUSR1)
                self.ask(client)
                self.wait_handled(server, signal.SIGUSR1)
            yield server, client

    def ask(self, client):
        client.sendall(b"hello\n")
        self.assertEqual(receive_exactly(client, 6), b"hello\n")

    @covers_fault(55)
    def test_every_stream(self):
        """Clients are answered, SIGUSR1 is handled, and SIGTERM stops the process with 0."""
        for name, make in self.streams():
            for program, variables in ((PROGRAM, ECHO), (EXAMPLE, {"XCHG_STOP_GRACE": "0"})):
                with self.subTest(name, program=os.path.basename(program)):
                    self.next_folder()
                    for server, client in self.serve(make(), program, **variables):
                        self.ask(client)
                        client.close()
                        server.stop()

    @covers_fault(55)
    def test_every_model(self):
        """The same under the other models, where the threads or processes of connections do not log."""
        for name in ("others_terminal", "file_at_its_limit"):
            for model in ("iterative", "fork", "thread"):
                with self.subTest(name, model=model):
                    self.next_folder()
                    for server, client in self.serve(getattr(self, name)(), XCHG_MODEL=model, **ECHO):
                        client.close()
                        server.stop()

    @covers_fault(55)
    def test_second_signal(self):
        """A second signal ends the process with 1 while a line waits."""
        for name in ("others_terminal", "others_pipe", "full_pipe"):
            with self.subTest(name):
                self.next_folder()
                for server, client in self.serve(getattr(self, name)(), XCHG_EXCHANGE="line", XCHG_MESSAGES="0"):
                    client.sendall(b"a message that has begun")
                    server.process.send_signal(signal.SIGTERM)
                    self.wait_handled(server, signal.SIGTERM)
                    self.assertIsNone(server.process.poll())
                    server.stop(signal.SIGINT, expect=1)

    def test_thread(self):
        """xchg-log runs only where a write can wait, and no signal from outside interrupts it."""
        with_thread = {"closed_terminal", "others_terminal", "others_pipe", "file_at_its_limit"}
        for name, make in self.streams():
            with self.subTest(name):
                for server, client in self.serve(make(), **ECHO):
                    threads = server.threads()
                    self.assertEqual("xchg-log" in threads, name in with_thread)
                    if name in with_thread:
                        with open(f"/proc/{server.pid}/task/{threads['xchg-log']}/status") as status:
                            blocked = next(int(line.split()[1], 16) for line in status if line.startswith("SigBlk:"))
                        for signum in ("PIPE", "XFSZ", "TTOU", "TERM", "INT", "HUP", "USR1", "CHLD", "ALRM", "PROF"):
                            self.assertTrue(blocked >> (signal.Signals["SIG" + signum] - 1) & 1, signum)
                    client.close()
                    server.stop()

    @covers_fault(55)
    def test_recovery(self):
        """Once the terminal is read again, lines arrive, and lost ones are counted."""
        for name in ("unread_terminal", "others_terminal"):
            with self.subTest(name):
                self.next_folder()
                master, slave = self.terminal()
                self.addCleanup(os.close, master)
                if name == "others_terminal":
                    os.fchmod(slave, 0)
                wrap = NO_RIGHTS if name == "others_terminal" else []
                for server, client in self.serve({"stderr": slave, "wrap": wrap}, **ECHO):
                    for _ in range(100):  # more than the buffer holds
                        server.process.send_signal(signal.SIGUSR1)
                        self.wait_handled(server, signal.SIGUSR1)
                    text, deadline = b"", time.monotonic() + LIMIT
                    while b'msg="lines lost" count=' not in text:
                        self.assertLess(time.monotonic(), deadline)
                        server.process.send_signal(signal.SIGUSR1)
                        text += os.read(master, 65536)
                    while not text.endswith(b"\n"):  # the rest of a line that has begun
                        text += os.read(master, 65536)
                    client.close()
                    os.set_blocking(master, False)
                    server.process.send_signal(signal.SIGTERM)
                    while server.process.poll() is None:  # the stop may need room for a line
                        try:
                            os.read(master, 65536)
                        except BlockingIOError:
                            time.sleep(0.001)  # the pace of the looks
                    server.stop()

    @covers_fault(55)
    @unittest.skipIf(WRAP, "strace runs under no other tracer")
    def test_slow_file(self):
        """A disk takes ten minutes for a line. Clients are answered, and the main thread ends soon after SIGTERM."""
        fd = self.file()
        wrap = strace("write:delay_enter=600s", trace="write")
        at = wrap.index("-e")
        for server, client in self.serve({"stderr": fd, "wrap": [*wrap[:at], "-P", self.path("log"), *wrap[at:]]}, **ECHO):
            client.close()
            self.assertEqual(os.stat(self.path("log")).st_size, 0)
            with open(f"/proc/{server.pid}/status") as status:
                tracer = next(int(line.split()[1]) for line in status if line.startswith("TracerPid:"))
            server.process.send_signal(signal.SIGTERM)
            self.wait_for_state(server, "Z")
            os.kill(tracer, signal.SIGKILL)  # it keeps the thread that writes from ending
            server.finish()

    @covers_fault(55)
    def test_background_job(self):
        """A background job with `stty tostop` is not stopped, and its lines arrive."""
        for program, variables in ((PROGRAM, ECHO), (EXAMPLE, {"XCHG_STOP_GRACE": "0"})):
            with self.subTest(os.path.basename(program)):
                self.next_folder()
                master, slave = self.terminal(termios.TOSTOP)
                self.addCleanup(os.close, master)
                with Notify(self.path("")) as notify:
                    env = environment(NOTIFY_SOCKET=notify.address, XCHG_LISTEN=f"unix:{self.path()}", **variables)
                    shell = subprocess.Popen([sys.executable, "-S", "-c", BACKGROUND, str(slave), *WRAP, program], env=env,
                                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[slave])
                    self.addCleanup(shell.communicate)
                    job = int(shell.stdout.readline())
                    notify.wait("READY=1")
                    client = self.unix_client(self.path())
                    for _ in range(5):
                        os.kill(job, signal.SIGUSR1)
                        self.ask(client)
                    client.close()
                    os.kill(job, signal.SIGTERM)
                    text = b""
                    while b"msg=stopped" not in text or not text.endswith(b"\n"):
                        text += os.read(master, 65536)
                    self.assertIn(b"msg=listening", text)
                    self.assertEqual((shell.wait(LIMIT), shell.stderr.read()), (0, b""))

    def test_a_file_is_written(self):
        """All lines reach a file before the process ends."""
        with Server(stderr=self.file(), **ECHO) as server:
            deadline = time.monotonic() + LIMIT
            while os.stat(self.path("log")).st_size == 0:
                self.assertLess(time.monotonic(), deadline)
            server.process.send_signal(signal.SIGUSR1)
            self.wait_handled(server, signal.SIGUSR1)
            server.stop()
        with open(self.path("log")) as log:
            words = [line.split(" msg=")[1].split()[0] for line in log]
        self.assertEqual(words, ["sandbox", "listening", "stats", "stopping", "stopped"])


class Faults(Streams):
    def refused(self, make, *arguments, **variables):
        """The exit code of xchgd on a stream."""
        self.next_folder()
        stream = make()
        process = subprocess.Popen([*stream.get("wrap", ()), *WRAP, PROGRAM, *arguments], env=environment(**variables),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stream["stderr"],
                                   preexec_fn=stream.get("preexec"), start_new_session=True)
        try:
            return process.wait(LIMIT)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    @covers_fault(55)
    def test_every_stream(self):
        """A configuration fault, a wrong argument and an address that cannot be bound have their exit codes."""
        many = {f"XCHG_{n}": "x" for n in range(60)}  # more lines than a terminal holds
        for name, make in self.streams():
            with self.subTest(name):
                self.assertEqual(self.refused(make, **many), 78)
                self.assertEqual(self.refused(make, "--nothing"), 64)
                self.assertEqual(self.refused(make, XCHG_LISTEN="192.0.2.1:0"), 69)

    def test_slow_reader(self):
        """All faults arrive at a terminal and at a pipe that take less than all of them at once."""
        many = {f"XCHG_{n}_{80 * 'x'}": "x" for n in range(200)}
        for name in ("unread_terminal", "pipe"):
            with self.subTest(name):
                master, slave = self.terminal() if name == "unread_terminal" else os.pipe()
                process = subprocess.Popen([*WRAP, PROGRAM], env=environment(**many), stdin=subprocess.DEVNULL,
                                           stdout=subprocess.DEVNULL, stderr=slave)
                text = b""
                while text.count(b"unknown variable") < len(many):
                    text += os.read(master, 512)
                self.assertEqual(process.wait(LIMIT), 78)
                os.close(master)


if __name__ == "__main__":
    unittest.main()
