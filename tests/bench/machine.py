"""Reads what the kernel knows of a process, a directory and the load; changes nothing."""

import os
import platform
from pathlib import Path

MB = 1_000_000


def rss_mb(pid: int) -> float:
    """Tell the memory that a process has in use."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / MB
    raise ProcessLookupError(pid)


def cpu_s(pid: int) -> float:
    """Tell the CPU time that a process has taken, user and system, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def directory_mb(directory: Path) -> float:
    """Tell the disk that a directory takes, sparse and preallocated files at what they really take."""
    return sum(file.stat().st_blocks * 512 for file in directory.rglob("*") if file.is_file()) / MB


def described() -> str:
    """Say on what machine this is, and how busy it is."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, load {load}"
