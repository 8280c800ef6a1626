"""The machine of a measurement, and the CPUs of the server and of the load."""

import datetime
import os
import platform
import re
import resource


def cpus():
    """The CPU of the server and that of the load: the first two usable ones. On a machine with one CPU, both are the same."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[min(1, len(usable) - 1)]


def descriptors():
    """The hard limit of open descriptors per process."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def affordable(connections):
    """Raise this process's descriptor limit; as many of the connections as that limit allows."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors(), descriptors()))
    return min(connections, descriptors() - 1500)


def read(path, missing="unknown"):
    try:
        with open(path) as stream:
            return stream.read().strip()
    except OSError:
        return missing


def model():
    text = read("/proc/cpuinfo", "")
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.M)
    return found.group(1) if found else platform.machine()


def memory_gib():
    found = re.search(r"^MemTotal:\s+(\d+)", read("/proc/meminfo", ""), re.M)
    return round(int(found.group(1)) / 1024 / 1024, 1) if found else None


def distribution():
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', read("/etc/os-release", ""), re.M)
    return found.group(1) if found else "unknown"


def describe():
    server, load = cpus()
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": model(),
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "cpus_usable": len(os.sched_getaffinity(0)),
        "hypervisor": "hypervisor" in re.findall(r"\w+", read("/proc/cpuinfo", "")),
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "kernel": re.match(r"\d+\.\d+(\.\d+)?", platform.release()).group(0),
        "distribution": distribution(),
        "memory_gib": memory_gib(),
        "descriptors": descriptors(),
        "somaxconn": read("/proc/sys/net/core/somaxconn"),
        "cpu_of_the_server": server,
        "cpu_of_the_load": load,
    }


def load_average():
    return os.getloadavg()[0]
