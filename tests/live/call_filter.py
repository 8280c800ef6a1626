"""Runs a server under a filter of system calls, as an old kernel, a container engine or a service manager has it.

    with Server(wrap=refusing(["landlock_create_ruleset"], errno.ENOSYS)) as server:
"""

import errno
import os
import struct
import subprocess
import sys

# Sets no_new_privs, installs the filter argv[1] (hexadecimal) and executes argv[2:].
INSTALL = """import ctypes, os, struct, sys
code = bytes.fromhex(sys.argv[1])
text = ctypes.create_string_buffer(code)
head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(text)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) == -1 or libc.prctl(22, 2, head, 0, 0) == -1:
    raise OSError(ctypes.get_errno(), "no filter of system calls")
os.execvp(sys.argv[2], sys.argv[2:])
"""
# Adds argv[1] layers of Landlock, which forbid little, and executes argv[2:].
LAYERS = """import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
right = ctypes.c_uint64(1 << 11)  # LANDLOCK_ACCESS_FS_MAKE_BLOCK
libc.prctl(38, 1, 0, 0, 0)
for _ in range(int(sys.argv[1])):
    fd = libc.syscall(444, ctypes.byref(right), ctypes.c_size_t(8), 0)
    if libc.syscall(446, fd, 0) == -1:
        raise OSError(ctypes.get_errno(), "no layer of Landlock")
    os.close(fd)
os.execvp(sys.argv[2], sys.argv[2:])
"""
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K
ALLOW, ERRNO = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
UNIT_CALLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "unit_calls.txt")


def numbers(names):
    """The numbers of the system calls on this machine; a name that its headers do not know is left out."""
    text = "\n".join(f"{name} __NR_{name}" for name in names)
    out = subprocess.run(["gcc", "-E", "-P", "-include", "sys/syscall.h", "-"], input=text, capture_output=True, text=True, check=True).stdout
    words = [line.split() for line in out.splitlines()]
    return [int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdigit()]


def wrap_of(names, listed, otherwise):
    """A wrap whose filter returns ${listed} for these calls and ${otherwise} for all others."""
    lines = [(LOAD, 0, 0, 0)]
    for number in numbers(names):
        lines += [(EQUAL, 0, 1, number), (RETURN, 0, 0, listed)]
    code = b"".join(struct.pack("HBBI", *line) for line in [*lines, (RETURN, 0, 0, otherwise)])
    return [sys.executable, "-S", "-c", INSTALL, code.hex()]


def refusing(names, error):
    """A wrap under which these calls fail with ${error}."""
    return wrap_of(names, ERRNO | error, ALLOW)


def layered(count):
    """A wrap with ${count} layers of Landlock; a process has 16 at most."""
    return [sys.executable, "-S", "-c", LAYERS, str(count)]


def unit_filter():
    """A wrap with the SystemCallFilter= of the systemd units, whose other calls fail with EPERM."""
    with open(UNIT_CALLS, encoding="ascii") as f:
        names = [line.strip() for line in f if not line.startswith("#")]
    return wrap_of(names, ALLOW, ERRNO | errno.EPERM)
