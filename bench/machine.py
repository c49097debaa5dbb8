"""What the figures were taken on, and what a process has used so far, from /proc."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.java import find_java
from deploy.local.kafka import kafka_jars
from deploy.local.postgres import postgres_programs

TICKS = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count() or 1


def cpu_seconds(pid: int) -> float:
    """User and system time of the process and its threads."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def cpu_seconds_with_children(pid: int) -> float:
    """Of a server that forks, such as PostgreSQL: its living children, and those it has waited for."""
    total = 0.0
    for each in Path("/proc").iterdir():
        if not each.name.isdigit():
            continue
        try:
            stat = (each / "stat").read_text()
        except OSError:
            continue
        fields = stat[stat.rindex(")") + 2 :].split()
        if int(each.name) == pid:
            total += sum(int(fields[i]) for i in (11, 12, 13, 14)) / TICKS
        elif int(fields[1]) == pid:
            total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def rss_mb(pid: int) -> float:
    """Resident memory in MB (10^6 bytes)."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def rss_mb_with_children(pid: int) -> float:
    """Of a process and those it has forked. What they share counts for each of them."""
    total = rss_mb(pid)
    for each in Path("/proc").iterdir():
        try:
            stat = (each / "stat").read_text() if each.name.isdigit() else ""
            if stat and int(stat[stat.rindex(")") + 2 :].split()[1]) == pid:
                total += rss_mb(int(each.name))
        except OSError:
            continue  # ended meanwhile
    return total


def peak_rss_mb(pid: int) -> float:
    """The most it ever was, in MB."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def machine_busy_seconds() -> float:
    """CPU time of all cores together that was not idle."""
    fields = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS


@dataclass
class CpuMeter:
    """CPU seconds per named process since start(), and of everybody else on the machine."""

    pids: dict[str, int]
    forking: frozenset[str] = frozenset()
    _began: dict[str, float] = field(default_factory=dict)
    _machine: float = 0.0

    def start(self) -> None:
        self._began = self._read()
        self._machine = machine_busy_seconds()

    def read(self) -> dict[str, float]:
        used = {name: now - self._began[name] for name, now in self._read().items()}
        used["others"] = max(0.0, machine_busy_seconds() - self._machine - sum(used.values()))
        return used

    def _read(self) -> dict[str, float]:
        return {
            name: cpu_seconds_with_children(pid) if name in self.forking else cpu_seconds(pid)
            for name, pid in self.pids.items()
        }


def facts() -> list[tuple[str, str]]:
    """Machine and versions, as rows of a table."""
    return [
        ("CPU", f"{_cpu_model()}, {CORES} cores"),
        ("memory", f"{_memory_gib():.0f} GiB"),
        ("kernel", f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"),
        ("system", _os_name()),
        ("PostgreSQL", _first_line([str(postgres_programs() / "postgres"), "--version"])),
        ("Kafka", _kafka_version()),
        ("Java", _first_line([str(find_java()), "--version"])),
        *((name, _package(package)) for name, package in _PACKAGES),
        ("gcc", _first_line(["gcc", "--version"])),
    ]


_PACKAGES = (("librdkafka", "librdkafka1"), ("libmicrohttpd", "libmicrohttpd12*"), ("libuv", "libuv1*"))


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.processor()


def _memory_gib() -> float:
    found = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) / 2**20 if found else 0.0


def _os_name() -> str:
    found = re.search(r'^PRETTY_NAME="(.+)"', Path("/etc/os-release").read_text(), re.MULTILINE)
    return found[1] if found else "unknown"


def _first_line(command: Iterable[str]) -> str:
    try:
        done = subprocess.run(list(command), capture_output=True, text=True, timeout=20)
    except OSError:
        return "not found"
    return (done.stdout or done.stderr).splitlines()[0]


def _kafka_version() -> str:
    names = [re.fullmatch(r"kafka_2\.13-(\d[\d.]*)\.jar", jar.name) for jar in kafka_jars().glob("kafka_2.13-*.jar")]
    return next((f"Apache Kafka {name[1]}, one node (KRaft)" for name in names if name), "unknown")


def _package(pattern: str) -> str:
    done = subprocess.run(
        ["dpkg-query", "-W", "-f=${db:Status-Abbrev} ${Version}\n", pattern], capture_output=True, text=True
    )
    installed = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("ii")]
    return installed[0] if installed else "unknown"
