"""Printers and commands for gdb:  gdb -p "$(pidof xchgd)" -x docs/debugging/xchg-gdb.py, or: gdb xchgd CORE -x ...

    xchg server             the servers of the process: listeners, state, connections, ends by reason
    xchg workers            each worker: its connections, its queue, what it does
    xchg conns [WORKER]     the connections of all workers, or of one
    xchg conn ID            everything about the connection with this id
    xchg ring WORKER        the accepted connections that wait in a worker's ring

The admin endpoint is a server of its own; `xchg server` shows it, the other commands leave it out. Workers outside of
XCHG_MODEL=pool are found while they serve. A struct buf, struct send_queue or struct xchg_conn is printed as one line; `print/r`
shows its fields. Everything is read by the program's debug information, so a core is as good as a process.
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


def enum_text(kind, value, prefix=""):
    text = str(gdb.parse_and_eval(f"(enum {kind}){int(value)}"))
    return text[len(prefix):] if text.startswith(prefix) else text


def slot_of(conn):
    return int(conn["source"]["key"]) & ((1 << int(conn["ctx"]["reactor"]["slot_bits"])) - 1)


def generation_of(conn):
    """0 = it has ended."""
    return int(conn["source"]["key"]) >> int(conn["ctx"]["reactor"]["slot_bits"])


def id_of(conn):
    ctx = conn["ctx"]
    return int(ctx["index"]) << (64 - int(ctx["reactor"]["owner_bits"])) | int(conn["source"]["key"])


def peer_of(conn):
    return conn["ctx"]["peers"][slot_of(conn)]


def age_ms(conn):
    return max(0, int(conn["ctx"]["reactor"]["now_ns"]) - int(peer_of(conn)["opened_ns"])) // 1000000


def conn_text(conn):
    return (f"id {id_of(conn):016x} fd {int(conn['fd'])} {enum_text('conn_state', conn['state'], 'CONN_')} "
            f"{peer_text(peer_of(conn)['addr'])} slot {slot_of(conn)} generation {generation_of(conn)} age {age_ms(conn)} ms "
            f"messages {int(conn['messages'])} in {buf_size(conn['in'])} out {queue_size(conn['out'])}")


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


def frames(names):
    """(thread, innermost frame of one of these functions) of each thread that runs one."""
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        frame = gdb.newest_frame()
        while frame is not None and frame.name() not in names:
            frame = frame.older()
        if frame is not None:
            yield thread, frame


def containing(pointer, kind, member):
    """What container_of yields: the struct ${kind} with this ${member}."""
    target = gdb.lookup_type(f"struct {kind}")
    offset = next(field.bitpos // 8 for field in target.fields() if field.name == member)
    return gdb.Value(int(pointer) - offset).cast(target.pointer()).dereference()


def serving_workers():
    """The struct worker of each thread that runs one."""
    for _, frame in frames(("worker_run", "worker_serve", "worker_serve_single")):
        yield frame.read_var("worker").dereference()


def is_admin(server):
    """Is it the server of the admin endpoint?"""
    return str(server["config"]["use"]) == "USE_ADMIN"


def servers():
    """The struct xchg_server of the process: those that accept, then those whose workers run."""
    found = {}
    for _, frame in frames(("acceptor_run",)):
        server = frame.read_var("acceptor")["setup"]["model"]["setup"]["server"]
        found.setdefault(int(server), server.dereference())
    for worker in serving_workers():
        server = worker["ctx"]["server"]
        if int(server) != 0:
            found.setdefault(int(server), server.dereference())
    return sorted(found.values(), key=is_admin)


def model_of(server):
    return enum_text("config_model", server["config"]["model"], "MODEL_").lower()


def workers_of(server):
    """The struct worker of a server, in their order."""
    if model_of(server) == "pool":
        pool = containing(server["model"], "model_pool", "model")
        return [pool["threads"][i]["worker"] for i in range(int(pool["started"]))]
    mine = [worker for worker in serving_workers() if int(worker["ctx"]["server"]) == int(server.address)]
    return sorted(mine, key=lambda worker: int(worker["index"]))


def workers():
    """The workers of all servers but the admin endpoint's."""
    return [worker for server in servers() if not is_admin(server) for worker in workers_of(server)]


def connections(worker):
    """The live connections of a worker: the slots in use of its slab that have not ended."""
    slab, conn_type = worker["conns"], gdb.lookup_type("struct xchg_conn").pointer()
    words = int(slab["words"])
    for chunk in range(int(slab["end"])):
        for word in range(words):
            bits = int(slab["bits"][chunk * words + word])
            while bits != 0:
                i = word * 64 + (bits & -bits).bit_length() - 1
                bits &= bits - 1
                memory = int(slab["chunks"][chunk]["base"]) + i * int(slab["object_bytes"])
                conn = gdb.Value(memory).cast(conn_type).dereference()
                if int(conn["ctx"]) != 0 and generation_of(conn) != 0:
                    yield conn


def ring_entries(ring):
    """The struct accepted_conn that wait, oldest first."""
    head, tail, mask = int(ring["head"]), int(ring["tail"]), int(ring["mask"])
    for i in range((tail - head) & 0xffffffff):
        yield ring["slots"][(head + i) & mask]


def waiting(worker):
    return 0 if bool(worker["single"]) else sum(1 for _ in ring_entries(worker["inbox"]["ring"]))


def listener_text(listener):
    addr = listener["addr"]
    text = "unix:" + addr["path"].string() if peer_text(addr["addr"]) == "unix" else peer_text(addr["addr"])
    return text if int(listener["fd"]) != -1 else text + " (closed)"


def accepted_by(server, i):
    source = server["acceptor"]["source_of"][i]
    return 0 if int(source) == 0 else int(source["accepted"])


def state_of(server):
    if int(server["stop_now_sent"]) != 0:
        return "stops now"
    if int(server["drain_sent"]) != 0:
        return "drains"
    return "pauses" if enum_text("accept_state", server["acceptor"]["state"]) == "ACCEPT_PAUSED" else "accepts"


def ends_of(server):
    """How many connections have ended, by reason, of this server's running workers and its acceptor."""
    blocks = [server["acceptor"]["stats"]] + [worker["stats"] for worker in workers_of(server)]
    for field in gdb.lookup_type("enum xchg_reason").fields():
        count = sum(int(block["ended"][field.enumval]) for block in blocks) if field.name != "XCHG_REASONS" else 0
        if count > 0:
            yield field.name.replace("XCHG_", "").lower(), count


def print_server(_):
    for server in servers():
        config, those = server["config"], workers_of(server)
        print(f"{'admin endpoint' if is_admin(server) else 'server'}: {state_of(server)}, model {model_of(server)}, "
              f"{len(those)} workers, {sum(len(list(connections(worker))) for worker in those)} of "
              f"{int(config['max_connections'])} connections, {sum(map(waiting, those))} waiting")
        for i in range(int(server["listeners_count"])):
            print(f"  listener {i}: {listener_text(server['listeners'][i])} accepted {accepted_by(server, i)}")
        print("  ended: " + (", ".join(f"{name} {count}" for name, count in ends_of(server)) or "none"))


def worker_state(worker):
    began, now = int(worker["turn_ns"]), int(worker["reactor"]["now_ns"])
    if began == 0:
        return "waits"
    current = worker["ctx"]["current"]
    return "in a turn" + (f" of connection {id_of(current):016x}" if int(current) != 0 and began == now else "")


def print_workers(_):
    for worker in workers():
        print(f"worker {int(worker['index'])}: {len(list(connections(worker)))} connections, {waiting(worker)} waiting, "
              f"{worker_state(worker)}, messages {int(worker['stats']['messages'])}")


def print_conns(argument):
    for worker in workers():
        if argument in ("", str(int(worker["index"]))):
            mine = list(connections(worker))
            print(f"worker {int(worker['index'])}: {len(mine)} connections")
            for conn in mine:
                print(f"  {conn_text(conn)}")


HOLDS = {1: "handler", 2: "drain", 4: "offloads"}
FLAGS = ("is_unix", "eof", "extra_input", "clock_stopped", "drain_due", "stalled", "lifetime_over", "half_close")


def print_conn(argument):
    try:
        wanted = int(argument, 16)
    except ValueError:
        raise gdb.GdbError("an id has 16 hexadecimal digits") from None
    for conn in (conn for worker in workers() for conn in connections(worker)):
        if id_of(conn) != wanted:
            continue
        now = int(conn["ctx"]["reactor"]["now_ns"])
        print(conn_text(conn))
        print(f"  worker {int(conn['ctx']['index'])} listener {int(peer_of(conn)['listener'])} object {conn.address}")
        print(f"  bytes in {int(conn['bytes_in'])} out {int(conn['bytes_out'])}, idle {max(0, now - int(conn['active_ns'])) // 1000000} ms")
        print("  held by: " + (", ".join(name for bit, name in HOLDS.items() if int(conn["hold_reasons"]) & bit) or "nothing"))
        print("  flags: " + (", ".join(name for name in FLAGS if int(conn[name]) != 0) or "none"))
        print(f"  in: {buf_text(conn['in'])}")
        print(f"  out: {queue_text(conn['out'])}")
        return
    raise gdb.GdbError(f"there is no connection {wanted:x}")


def print_ring(argument):
    for worker in workers():
        if str(int(worker["index"])) == argument:
            entries = list(ring_entries(worker["inbox"]["ring"])) if not bool(worker["single"]) else []
            print(f"worker {argument}: {len(entries)} waiting, capacity {int(worker['inbox']['ring']['mask']) + 1}")
            for entry in entries:
                print(f"  fd {int(entry['fd'])} {peer_text(entry['addr'])} listener {int(entry['listener'])}")
            return
    raise gdb.GdbError(f"there is no worker {argument}")


class Command(gdb.Command):
    """A command whose help is the line of this file's text."""

    def __init__(self, name, function):
        self.__doc__ = next((line.strip() for line in __doc__.split("\n") if line.strip().startswith(name)), __doc__)
        self.name, self.function = name, function
        super().__init__(name, gdb.COMMAND_DATA, prefix=function is None)

    def invoke(self, argument, from_tty):
        if self.function is None:
            raise gdb.GdbError("usage: xchg server | workers | conns [WORKER] | conn ID | ring WORKER")
        selected = gdb.selected_thread()
        if selected is None:
            raise gdb.GdbError("there is no process")
        frame = gdb.selected_frame()
        try:
            self.function(argument.strip())
        finally:
            selected.switch()
            frame.select()


gdb.printing.register_pretty_printer(gdb.current_objfile(), make_printers(), replace=True)
for command, action in (("xchg", None), ("xchg server", print_server), ("xchg workers", print_workers), ("xchg conns", print_conns),
                        ("xchg conn", print_conn), ("xchg ring", print_ring)):
    Command(command, action)
