"""Says where the brokers of one cluster keep their data and on which ports they listen; starts nothing."""

import json
import os
import random
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "kafka"

# Below what Linux gives to outgoing connections: a port from there may be taken again before Kafka listens.
FREE_PORTS = range(20_000, 32_000)
PORT_TRIES_MAX = 50  # a run of free ports is usually found at the first


class NodeRefused(Exception):
    """The command cannot be done: its text is one sentence for the person who gave it."""


@dataclass(frozen=True, kw_only=True)
class Broker:
    """One broker's places; a broker's folder holds at most one running broker."""

    number: int
    version: str
    port: int
    folder: Path

    @property
    def controller_port(self) -> int:
        """Where its controller is spoken to."""
        return self.port + 1

    @property
    def home(self) -> Path:
        """Data of one version: an older Kafka cannot read what a newer one wrote."""
        return self.folder / self.version

    @property
    def pid_file(self) -> Path:
        """Holds the pid, and is locked by the broker itself while it lives, so a stale pid never counts."""
        return self.folder / "broker.pid"

    @property
    def output(self) -> Path:
        """What the broker printed since its last start."""
        return self.folder / "broker.log"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What was asked for at the start; later commands read it from the data directory."""

    version: str
    port: int
    count: int

    def brokers(self, data_dir: Path) -> list[Broker]:
        """Name the brokers; each takes two ports, all of them in a row."""
        return [
            Broker(
                number=number,
                version=self.version,
                port=self.port + 2 * (number - 1),
                folder=data_dir / f"broker-{number}",
            )
            for number in range(1, self.count + 1)
        ]

    @property
    def servers(self) -> str:
        """What clients call bootstrap servers."""
        return ",".join(f"127.0.0.1:{self.port + 2 * index}" for index in range(self.count))


def record(cluster: Cluster, data_dir: Path) -> None:
    """Write down what runs here; data of another number of brokers is not to be touched."""
    earlier = recorded(data_dir)
    if earlier is not None and earlier.count != cluster.count:
        raise NodeRefused(
            f"{data_dir} holds the data of {earlier.count} broker(s), not {cluster.count}; "
            "name another --data-dir or delete it."
        )
    if earlier == cluster:
        return
    data_dir.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: two brokers of one cluster may be started at the same moment.
    draft = _path(data_dir).with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(asdict(cluster)) + "\n", encoding="utf-8")
    draft.replace(_path(data_dir))


def recorded(data_dir: Path) -> Cluster | None:
    """Read what was started here last."""
    try:
        return Cluster(**json.loads(_path(data_dir).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def free_ports(count: int) -> int:
    """Find the first of so many free ports in a row."""
    for _ in range(PORT_TRIES_MAX):
        port = random.choice(FREE_PORTS)
        if all(why_taken(port + step) is None for step in range(count)):
            return port
    raise NodeRefused(f"There are no {count} free ports in a row; name the first of them with --port.")


def why_taken(port: int) -> str | None:
    """Say why nobody can listen on a port, if that is so."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as exc:
            return str(exc)
    return None


def _path(data_dir: Path) -> Path:
    return data_dir / "cluster.json"
