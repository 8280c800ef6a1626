"""The series: one exchange at one load, with the servers that are compared.

Each row of a series is a server. Alternating pairs of runs compare it with the baseline of the series. The list is in the order of
importance: where time is short, the first series get it. Before its rows, a series compares its baseline with itself (A/A).
"""

from dataclasses import dataclass, field

MN = (b"mn\r\n", b"MN\r\n")
PING = (b"PING\r\n", b"+PONG\r\n")  # an inline command of Redis: the same bytes for both servers
PING_RESP = b"*1\r\n$4\r\nPING\r\n"  # as Redis clients send it; xchgd gets a line of the same size
PING_LINE = b"12 bytes and\r\n"
HTTP_REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
EVENT_LOOPS = ["bare-et", "libevent-raw", "libevent-bev", "libuv", "io_uring"]
LECTURE = ["lecture-iterative", "lecture-fork", "lecture-thread"]


@dataclass
class Series:
    name: str
    title: str
    exchange: str
    connections: int
    rows: list
    pipeline: int = 1
    once: bool = False         # one connection per exchange (of `answer`)
    half_rate_of: str = None   # an open loop, at half the rate that the row's server reached in that series
    pinned: bool = True
    overload: bool = False     # pinned, but the load has both CPUs and one thread on each
    baseline: str = "bare"
    request: bytes = None      # of `answer`
    answer: bytes = None       # None: ask the server once and expect that answer
    lines: dict = field(default_factory=dict)  # server: its own request, of the same size, if its framing differs
    quick: list = field(default_factory=list)  # the rows of bench-quick
    group: str = "core"        # the target that runs it: make bench, bench-languages, bench-http

    @property
    def counted(self):
        """Are system calls counted? Not in the groups for scale: servers of several processes, and runtimes that poll."""
        return self.group == "core" and self.half_rate_of is None

    @property
    def own_protocol(self):
        return self.exchange in ("answer", "hello")


def echo(connections, rows, **more):
    plural = "" if connections == 1 else "s"
    return Series(f"echo-{connections}", f"echo of 64 bytes, {connections:,} connection{plural}", "echo", connections, rows, **more)


def greet(connections, rows, **more):
    return Series(f"greet-{connections}", f"greet: connect, greeting, message of 64 bytes, close; {connections:,} at a time", "greet", connections,
                  rows, **more)


CONCURRENT = ["xchgd", "xchgd-fork", "xchgd-thread"]
LECTURE_CONCURRENT = ["lecture-fork", "lecture-thread"]

SERIES = [
    echo(64, [*CONCURRENT, *EVENT_LOOPS, *LECTURE_CONCURRENT], quick=["xchgd", "xchgd-thread", "bare-et", "libevent-bev", "libuv", "io_uring"]),
    echo(1, ["xchgd", "xchgd-iterative", "xchgd-fork", "xchgd-thread", *EVENT_LOOPS, *LECTURE], quick=["xchgd"]),
    echo(1000, [*CONCURRENT, *EVENT_LOOPS, *LECTURE_CONCURRENT], quick=["xchgd", "libuv"]),
    echo(10000, ["xchgd", *EVENT_LOOPS], quick=["xchgd"]),
    Series("pipeline-16", "echo of 64 bytes, 64 connections, 16 messages in flight on each", "echo", 64,
           [*CONCURRENT, *EVENT_LOOPS, "lecture-thread"], pipeline=16, quick=["xchgd", "libevent-bev"]),
    Series("pipeline-128", "echo of 64 bytes, 64 connections, 128 messages in flight on each", "echo", 64, ["xchgd"], pipeline=128,
           quick=["xchgd"]),
    greet(64, ["xchgd", "xchgd-linger-0", "xchgd-iterative", "xchgd-fork", "xchgd-thread", *EVENT_LOOPS, *LECTURE],
          quick=["xchgd", "xchgd-linger-0", "xchgd-fork", "xchgd-thread", "libuv", *LECTURE]),
    greet(1, ["xchgd", "xchgd-linger-0", "xchgd-iterative", "xchgd-fork", "xchgd-thread", *EVENT_LOOPS, *LECTURE], quick=["xchgd"]),
    greet(1000, ["xchgd", "xchgd-linger-0", "xchgd-iterative", "xchgd-fork", "xchgd-thread", *EVENT_LOOPS, *LECTURE]),
    Series("greet-overload", "greet, 64 at a time, the server on one CPU, two load threads on both", "greet", 64,
           ["xchgd", "xchgd-linger-0", "libuv"], overload=True),
    Series("open-half", "echo of 64 bytes, 64 connections, open loop at half of the server's best rate", "echo", 64,
           ["xchgd", "xchgd-thread", *EVENT_LOOPS, "lecture-thread"], half_rate_of="echo-64", quick=["xchgd"]),
    Series("echo-free", "echo of 64 bytes, 64 connections, nothing pinned, two load threads", "echo", 64,
           ["reuseport", "xchgd", "xchgd-thread"], pinned=False),
    Series("greet-free", "greet, 64 at a time, nothing pinned, two load threads", "greet", 64,
           ["reuseport", "xchgd", "xchgd-linger-0", *LECTURE], pinned=False, quick=["reuseport", "xchgd"]),
    Series("mn-64", "request and answer of 4 bytes (memcached's `mn`), 64 connections", "answer", 64, ["memcached", "xchgd"],
           baseline="bare-answer", request=MN[0], answer=MN[1], quick=["memcached", "xchgd"]),
    Series("mn-1000", "request and answer of 4 bytes (memcached's `mn`), 1,000 connections", "answer", 1000, ["memcached", "xchgd"], baseline="bare-answer", request=MN[0],
           answer=MN[1]),
    Series("mn-pipeline-16", "request and answer of 4 bytes (memcached's `mn`), 64 connections, 16 requests in flight on each", "answer", 64, ["memcached", "xchgd"], pipeline=16,
           baseline="bare-answer", request=MN[0], answer=MN[1], quick=["memcached", "xchgd"]),
    Series("mn-connect", "connect, one request of 4 bytes, answer, close; 64 at a time", "answer", 64, ["memcached", "xchgd"], once=True,
           baseline="bare-answer", request=MN[0], answer=MN[1]),
    Series("ping-64", "request of 6 bytes and answer of 7 (Redis' PING, inline), 64 connections", "answer", 64, ["redis", "xchgd"],
           baseline="bare-answer", request=PING[0], answer=PING[1]),
    Series("ping-pipeline-16", "request of 6 bytes and answer of 7 (Redis' PING, inline), 64 connections, 16 in flight on each", "answer", 64, ["redis", "xchgd"], pipeline=16,
           baseline="bare-answer", request=PING[0], answer=PING[1]),
    Series("ping-resp-16", "request of 14 bytes (PING as RESP; xchgd: a line), answer of 7, 64 connections, 16 in flight", "answer", 64,
           ["redis", "xchgd"], pipeline=16, baseline="bare-answer", request=PING_RESP, answer=PING[1], lines={"xchgd": PING_LINE}),
    Series("hello-64", "connect, greeting of 20 bytes, immediate close by the server; 64 at a time", "hello", 64,
           ["nginx-stream", "libevent-raw", "libuv"], once=True),
    Series("http-64", "for scale only: an HTTP answer, 64 connections; the baseline sends the same bytes", "answer", 64,
           ["nginx-http", "haproxy-http"], baseline="bare-answer", request=HTTP_REQUEST),
]

# ---- the languages: pairs with xchgd ----

LANGUAGES = ["go-net", "tokio", "netty", "asio", "node", "node-shared", "uvloop", "erlang"]


def languages(name, title, exchange, connections, **more):
    """The series on all cores, and on one core for the server and another for the load."""
    half = more.pop("half_rate_of", None)
    return [Series(f"languages-{name}{suffix}", f"{title}, {where}", exchange, connections, LANGUAGES, pinned=pinned, baseline="xchgd",
                   group="languages", half_rate_of=half and f"languages-{half}{suffix}", **more)
            for suffix, where, pinned in (("", "all cores", False), ("-one-core", "one core", True))]


def languages_echo(count):
    return languages(f"echo-{count}", f"echo of 64 bytes, {count:,} connection{'s' * (count > 1)}", "echo", count)


SERIES += languages_echo(64)
SERIES += languages("open-half", "echo of 64 bytes, 64 connections, open loop at half of the server's best rate", "echo", 64, half_rate_of="echo-64")
SERIES += languages_echo(1000)
SERIES += languages("pipeline-16", "echo of 64 bytes, 64 connections, 16 messages in flight on each", "echo", 64, pipeline=16)
SERIES += languages("greet-64", "greet: connect, greeting, message of 64 bytes, close; 64 at a time", "greet", 64)
SERIES += languages_echo(10000) + languages_echo(1)

# ---- HTTP, loaded by wrk: pairs with nginx ----

HTTP = ["http-example", "bare-http", "haproxy-http", "h2o", "go-http", "node-http"]
SERIES += [Series(f"http-{count}-wrk", f"HTTP, a GET and a short answer, {count:,} connections, loaded by wrk", "http", count, HTTP, baseline="nginx-http",
                  group="http") for count in (64, 1000)]
GROUPS = list(dict.fromkeys(series.group for series in SERIES))
SERIES_BY_NAME = {series.name: series for series in SERIES}
