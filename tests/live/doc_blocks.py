"""The command blocks of a Markdown page, and a terminal that types them.

A block is fenced by ``` or indented by four spaces. Its first line begins with `$ `. The lines after a command, up to the next one, are
its output, in which `...` stands for any text; a line that is `...` alone stands for any number of lines. A command that ends with `\\`
continues on the next line.

    with Terminal(folder, environment) as terminal:
        for block in read_blocks(path):
            for command in block:
                terminal.type(command)
"""

import os
import re
import selectors
import signal
import subprocess
import time
from typing import NamedTuple

END = "doc-blocks-end-of-command"
# Commands come by descriptor 3, so that what they start does not read them.
LOOP = f'while IFS= read -r -d "" -u 3 command; do eval "$command"; echo "{END} $?"; done'
NETWORK = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")  # the ports of the page are free there


class Command(NamedTuple):
    line: int  # of the page
    text: str
    output: list  # lines


def read_blocks(path):
    """The blocks of the page, each a list of commands. Fenced blocks without a command are left out."""
    with open(path) as f:
        lines = f.read().split("\n")
    blocks, block, fence = [], [], None
    for number, line in enumerate(lines + [""], 1):
        marker = re.match(r" {0,3}(`{3,})", line)
        if marker and fence is None:
            fence, block = marker.group(1), []
        elif (marker and line.strip() == fence) or (fence is None and not line.startswith("    ") and block):
            blocks.append(commands(block))
            fence, block = None, []
        elif fence is not None or line.startswith("    "):
            block.append((number, line if fence else line[4:]))
    return [block for block in blocks if block]


def commands(block):
    """The commands of a block; none if it does not begin with one."""
    found = []
    for number, line in block if block and block[0][1].startswith("$ ") else ():
        if line.startswith("$ "):
            found.append(Command(number, line[2:], []))
        elif found[-1].text.endswith("\\") and not found[-1].output:
            found[-1] = found[-1]._replace(text=found[-1].text + "\n" + line)
        else:
            found[-1].output.append(line)
    return found


def matches(expected, output):
    """Are the lines of ${output} those that the page shows?"""
    pattern = "".join(r"(?:.*\n)*" if line == "..." else re.escape(line).replace(re.escape("..."), ".*") + r"\n" for line in expected)
    return re.fullmatch(pattern, "".join(line.rstrip() + "\n" for line in output)) is not None


def may_make_network():
    return subprocess.run([*NETWORK, "true"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


class Terminal:
    """A shell with a network of its own. Commands in the background go on until the end of the terminal."""

    def __init__(self, folder, environment, limit=60.0):
        self.limit, self.bytes = limit, b""
        commands_fd, self.commands = os.pipe()
        shell = ["bash", "-c", f"exec 3<&{commands_fd} {commands_fd}<&-; {LOOP}"] if commands_fd != 3 else ["bash", "-c", LOOP]
        self.shell = subprocess.Popen([*NETWORK, *shell], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, pass_fds=(commands_fd,), start_new_session=True)
        os.close(commands_fd)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        os.close(self.commands)
        try:
            os.killpg(self.shell.pid, signal.SIGKILL)  # the shell, and what it has left in the background
        except ProcessLookupError:
            pass
        self.shell.wait()
        self.shell.stdout.close()

    def type(self, command):
        """Type it, and wait for its end and its output, which may come later from the background. AssertionError where they differ."""
        os.write(self.commands, command.text.encode() + b"\0")
        deadline, output, status = time.monotonic() + self.limit, [], None
        while status is None or not matches(command.output, output):
            line = self.read_line(deadline)
            if line is None:
                raise AssertionError(f"line {command.line}: $ {command.text}\nexpected:\n" + "\n".join(command.output) +
                                     f"\nsaid{' until the time was over' if status is None else ''}:\n" + "\n".join(output))
            end = re.fullmatch(rf"(.*){END} (\d+)", line)
            if not end:
                output.append(line)
                continue
            output += [end.group(1)] if end.group(1) else []
            status = int(end.group(2))
            if status != 0:
                raise AssertionError(f"line {command.line}: $ {command.text}\nexit code {status}\n" + "\n".join(output))

    def read_line(self, deadline):
        """The next line, or None at the deadline or at the end of the shell."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.shell.stdout, selectors.EVENT_READ)
            while b"\n" not in self.bytes:
                if not selector.select(max(deadline - time.monotonic(), 0)) or not (piece := os.read(self.shell.stdout.fileno(), 65536)):
                    return None
                self.bytes += piece
        line, _, self.bytes = self.bytes.partition(b"\n")
        return line.decode(errors="replace")
