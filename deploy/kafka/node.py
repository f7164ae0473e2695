"""Starts and stops Apache Kafka, one broker or three, on loopback for tests; must never serve production.

It needs the standard library, Java 17 and, for the first start of a version, Maven. Exit codes: 0 done, or
running; 2 not done, or not running, with a sentence on stderr.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import Popen, TimeoutExpired

from jars import default_version, fetch, java_found
from layout import BUILD, Broker, Cluster, NodeRefused, free_ports, record, recorded
from process import (
    STOP_SECONDS_MAX,
    answers,
    ask_to_end,
    kill,
    launch,
    running_pid,
    wait_for_answer,
    wait_until_ended,
)

PORT = 9092
BROKERS_ALLOWED = (1, 3)
# Brokers that stop together lose their quorum; the last of them would wait for it in vain.
STOP_TOGETHER_SECONDS_MAX = 5


def start(asked: argparse.Namespace) -> str:
    """Start the cluster, or one broker of it that is away, and return once all of it answers."""
    data_dir: Path = asked.data_dir
    if asked.broker is not None:
        cluster = _known(data_dir)
        chosen = [_broker(cluster, data_dir, asked.broker)]
    else:
        version = asked.version or default_version()
        cluster = Cluster(
            version=version, port=asked.port or free_ports(2 * asked.brokers), count=asked.brokers
        )
        chosen = cluster.brokers(data_dir)
        for broker in chosen:
            if (pid := running_pid(broker)) is not None:
                raise NodeRefused(f"A broker already runs on {broker.folder} (pid {pid}); stop it first.")
    java = java_found()
    fetch(cluster.version)
    record(cluster, data_dir)
    began = time.monotonic()
    pids = launch_all(chosen, cluster.brokers(data_dir), java)
    servers = ",".join(f"127.0.0.1:{broker.port}" for broker in chosen)
    seconds = time.monotonic() - began
    return f"Kafka {cluster.version} answers on {servers} after {seconds:.1f} s (pid {pids})."


def launch_all(chosen: Sequence[Broker], cluster: Sequence[Broker], java: str) -> str:
    """Start brokers side by side; if one does not come up, or the person gives up waiting, end them all."""
    launched: list[tuple[Broker, Popen[bytes]]] = []
    try:
        for broker in chosen:
            launched.append((broker, launch(broker, cluster, java)))
        for broker, process in launched:
            wait_for_answer(broker, process)
    except BaseException:
        for _, process in launched:
            process.kill()
            process.wait()
        raise
    return ", ".join(str(process.pid) for _, process in launched)


def stop(asked: argparse.Namespace) -> str:
    """End every broker, or the one asked for, and return once gone; one that takes too long is killed."""
    cluster = recorded(asked.data_dir)
    brokers = [] if cluster is None else cluster.brokers(asked.data_dir)
    meant = [one for one in brokers if asked.broker in (None, one.number)]
    running = [one for one in meant if running_pid(one) is not None]
    if not running:
        return f"There is nothing to stop on {asked.data_dir}."
    for broker in running:
        ask_to_end(broker)
    deadline = time.monotonic() + (STOP_SECONDS_MAX if len(running) == 1 else STOP_TOGETHER_SECONDS_MAX)
    slow = [one for one in running if not wait_until_ended(one, deadline - time.monotonic())]
    for broker in slow:
        kill(broker)
    return f"Stopped {len(running)} broker(s), {len(slow)} of them by a kill."


def end_one(asked: argparse.Namespace) -> str:
    """End one broker as a power cut would; `start --broker` brings it back."""
    if asked.broker is None:
        raise NodeRefused("Say which broker to kill: --broker N.")
    broker = _broker(_known(asked.data_dir), asked.data_dir, asked.broker)
    if (pid := running_pid(broker)) is None:
        raise NodeRefused(f"Broker {broker.number} does not run.")
    kill(broker)
    return f"Killed broker {broker.number} (pid {pid})."


def status(asked: argparse.Namespace) -> str:
    """Say that every broker runs and answers, or refuse to."""
    brokers = _known(asked.data_dir).brokers(asked.data_dir)
    for broker in brokers:
        if (pid := running_pid(broker)) is None:
            raise NodeRefused(f"Broker {broker.number} of {len(brokers)} does not run.")
        if not answers(broker.port):
            raise NodeRefused(
                f"Broker {broker.number} (pid {pid}) does not answer on 127.0.0.1:{broker.port}."
            )
    return f"{len(brokers)} broker(s) answer on {_known(asked.data_dir).servers}."


def servers(asked: argparse.Namespace) -> str:
    """Give what clients call bootstrap servers, of a cluster that was started here."""
    return _known(asked.data_dir).servers


def _known(data_dir: Path) -> Cluster:
    cluster = recorded(data_dir)
    if cluster is None:
        raise NodeRefused(f"Nothing was ever started on {data_dir}.")
    return cluster


def _broker(cluster: Cluster, data_dir: Path, number: int) -> Broker:
    if not 1 <= number <= cluster.count:
        raise NodeRefused(f"There is no broker {number}; they are numbered from 1 to {cluster.count}.")
    return cluster.brokers(data_dir)[number - 1]


COMMANDS = {"start": start, "stop": stop, "status": status, "kill": end_one, "servers": servers}


def main(arguments: Sequence[str] | None = None) -> int:
    """Obey one command line."""
    parser = argparse.ArgumentParser(description="Apache Kafka on loopback, not for production.")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--version", help="of Apache Kafka, default: the one in pom.xml")
    parser.add_argument("--brokers", type=int, choices=BROKERS_ALLOWED, default=1, help="default 1")
    parser.add_argument("--broker", type=int, help="start, stop or kill this one of several")
    parser.add_argument(
        "--port", type=int, default=PORT, help="the first of two per broker; 0 finds free ones; default 9092"
    )
    parser.add_argument("--data-dir", type=Path, default=BUILD / "data", help="default build/kafka/data")
    asked = parser.parse_args(arguments)
    try:
        said = COMMANDS[asked.command](asked)
    except (NodeRefused, TimeoutExpired, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    sys.stdout.write(f"{said}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
