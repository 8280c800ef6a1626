"""Printers and a command for gdb:  gdb -p "$(pidof xchgd)" -x docs/debugging/xchg-gdb.py

    xchg-conns [WORKER]     the connections of all workers, or of one

A struct buf, struct send_queue or struct xchg_conn is printed as one line; `print/r` shows its fields.
"""

import ipaddress

import gdb
import gdb.printing

PREVIEW = 32  # bytes of a buffer that are shown


def buf_size(buf):
    """Bytes that wait in a struct buf *, which may be NULL."""
    return 0 if int(buf) == 0 else int(buf["end"]) - int(buf["begin"])


def buf_text(buf):
    size = buf_size(buf)
    if size == 0:
        return "empty"
    begin = int(buf["bytes"].address) + int(buf["begin"])
    data = bytes(gdb.selected_inferior().read_memory(begin, min(size, PREVIEW)))
    return f"{size} bytes {data!r}" + ("..." if size > PREVIEW else "")


def segments(queue):
    """The references of a struct send_queue, oldest first: (size of the reference, bytes copied after it)."""
    last = queue["last"]
    segment = last
    while int(last) != 0:
        segment = segment["next"]
        yield int(segment["ref"]["size"]), buf_size(segment["tail"])
        if int(segment) == int(last):
            return


def queue_size(queue):
    return buf_size(queue["bytes"]) + sum(map(sum, segments(queue)))


def queue_text(queue):
    if queue_size(queue) == 0:
        return "empty"
    parts = [buf_text(queue["bytes"])] if int(queue["bytes"]) != 0 else []
    for lent, copied in segments(queue):
        parts += [f"reference of {lent} bytes"] + ([f"{copied} bytes"] if copied > 0 else [])
    return ", ".join(parts)


def peer_text(addr):
    family = str(gdb.parse_and_eval(f"(enum addr_family){int(addr['family'])}"))
    data = bytes(int(addr["bytes"][i]) for i in range(16))
    if family == "ADDR_IPV4":
        return f"{ipaddress.IPv4Address(data[:4])}:{int(addr['port'])}"
    if family == "ADDR_IPV6":
        return f"[{ipaddress.IPv6Address(data)}]:{int(addr['port'])}"
    return "unix"


def conn_text(conn):
    state = str(gdb.parse_and_eval(f"(enum conn_state){int(conn['state'])}")).replace("CONN_", "")
    key, slot_bits = int(conn["source"]["key"]), int(conn["ctx"]["reactor"]["slot_bits"])
    slot = key & ((1 << slot_bits) - 1)
    return (f"fd {int(conn['fd'])} {state} {peer_text(conn['ctx']['peers'][slot]['addr'])} slot {slot} "
            f"generation {key >> slot_bits} messages {int(conn['messages'])} "
            f"in {buf_size(conn['in'])} out {queue_size(conn['out'])}")


class Printer:
    """What gdb asks for; ${text} makes the line."""

    def __init__(self, value, text):
        self.value, self.text = value, text

    def to_string(self):
        return self.text(self.value)


def make_printers():
    printers = gdb.printing.RegexpCollectionPrettyPrinter("xchg")
    for name, text in (("buf", lambda value: buf_text(value.address)), ("send_queue", queue_text), ("xchg_conn", conn_text)):
        printers.add_printer(name, f"^{name}$", lambda value, text=text: Printer(value, text))
    return printers


def workers():
    """The struct worker of each thread that runs one."""
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        frame = gdb.newest_frame()
        while frame is not None and frame.name() != "worker_run":
            frame = frame.older()
        if frame is not None:
            yield frame.read_var("worker").dereference()


def connections(worker):
    """The live connections of a worker: the slots in use of its slab."""
    slab, conn_type = worker["conns"], gdb.lookup_type("struct xchg_conn").pointer()
    words = int(slab["words"])
    for chunk in range(int(slab["end"])):
        for word in range(words):
            bits = int(slab["bits"][chunk * words + word])
            while bits != 0:
                i = word * 64 + (bits & -bits).bit_length() - 1
                bits &= bits - 1
                memory = int(slab["chunks"][chunk]["base"]) + i * int(slab["object_bytes"])
                yield gdb.Value(memory).cast(conn_type).dereference()


class Conns(gdb.Command):
    """xchg-conns [WORKER]: list the connections of all workers, or of one, under XCHG_MODEL=pool."""

    def __init__(self):
        super().__init__("xchg-conns", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        selected = gdb.selected_thread()
        try:
            for worker in sorted(workers(), key=lambda each: int(each["index"])):
                if argument not in ("", str(int(worker["index"]))):
                    continue
                print(f"worker {int(worker['index'])}: {int(worker['conns']['used'])} connections")
                for conn in connections(worker):
                    print(f"  {conn_text(conn)}")
        finally:
            selected.switch()


gdb.printing.register_pretty_printer(gdb.current_objfile(), make_printers(), replace=True)
Conns()
