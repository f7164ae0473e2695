"""Starts and stops one Apache Kafka node on loopback for development and tests; must never serve production.

It needs the standard library, Java 17 and, for the first start of a version, Maven. Exit codes: 0 done, or
running; 2 not done, or not running, with a sentence on stderr.
"""

import argparse
import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import string
import struct
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen, TimeoutExpired, run
from typing import IO

HERE = Path(__file__).resolve().parent
POM = HERE / "pom.xml"
BUILD = HERE.parents[1] / "build" / "kafka"

CLUSTER_ID = "tollhouse-local-kafka0"  # 22 characters of URL-safe base64, as Kafka wants it
HEAP = "-Xmx512m"  # a few topics need a quarter of it; the rest is for large batches
JAVA_MAJOR_MIN = 17  # what Kafka 4 brokers need
FETCH_SECONDS_MAX = 600  # 45 MB of jars over a slow line
START_SECONDS_MAX = (
    60  # usually 2 to 5, 15 after a kill: the controller waits out the broker's former session
)
STOP_SECONDS_MAX = 30  # usually below 1; then the node is killed, which Kafka survives
PROBE_SECONDS_MAX = 2  # a node that takes longer to list its versions is not ready
POLL_SECONDS = 0.1
LOG_LINES_SHOWN = 15  # the reason stands at the end


class NodeRefused(Exception):
    """The command cannot be done: its text is one sentence for the person who gave it."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """Where one node's program, data and marks lie; a data directory holds at most one running node."""

    version: str
    port: int
    data_dir: Path

    @property
    def libs(self) -> Path:
        """The jars of this version, shared by all nodes."""
        return BUILD / self.version / "libs"

    @property
    def home(self) -> Path:
        """Data of one version: an older Kafka cannot read what a newer one wrote."""
        return self.data_dir / self.version

    @property
    def pid_file(self) -> Path:
        """Holds the pid, and is locked by the node itself while it lives, so a stale pid never counts."""
        return self.data_dir / "node.pid"

    @property
    def output(self) -> Path:
        """What the node printed since its last start."""
        return self.data_dir / "node.log"


def start(node: Node) -> str:
    """Fetch, format and start the node, and return once it answers."""
    java = java_found()
    node.data_dir.mkdir(parents=True, exist_ok=True)
    with node.pid_file.open("a+") as mark:
        if not lock(mark):
            raise NodeRefused(f"A node already runs on {node.data_dir} (pid {pid_in(mark)}); stop it first.")
        mark.truncate(0)
        fetch(node)
        for port in (node.port, node.port + 1):
            refuse_taken(port)
        properties = write_properties(node)
        format_storage(node, java, properties)
        began = time.monotonic()
        process = launch(node, java, properties, mark)
        wait_for_answer(node, process)
    seconds = time.monotonic() - began
    return f"Kafka {node.version} answers on 127.0.0.1:{node.port} after {seconds:.1f} s (pid {process.pid})."


def stop(node: Node) -> str:
    """End the node by its pid and return once it is gone."""
    with held(node) as mark:
        if mark is None:
            return f"No node runs on {node.data_dir}."
        pid = pid_in(mark)
        for means, done in ((signal.SIGTERM, "Stopped"), (signal.SIGKILL, "Killed")):
            os.kill(pid, means)
            if gone(mark):
                return f"{done} the node with pid {pid}."
    raise NodeRefused(f"The node with pid {pid} did not end; see {node.output}.")


def status(node: Node) -> str:
    """Say that the node runs and answers, or refuse to."""
    with held(node) as mark:
        if mark is None:
            raise NodeRefused(f"No node runs on {node.data_dir}.")
        pid = pid_in(mark)
    if not answers(node.port):
        raise NodeRefused(f"The node with pid {pid} does not answer on 127.0.0.1:{node.port}.")
    return f"The node with pid {pid} answers on 127.0.0.1:{node.port}."


def output_of(command: list[str], seconds_max: float) -> tuple[bool, str]:
    """Run a program to its end: did it succeed, and the last lines it said."""
    done = run(
        command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, text=True, check=False, timeout=seconds_max
    )
    return done.returncode == 0, last_lines(done.stdout)


def java_found() -> str:
    """Return the java to run, refusing one that is missing or too old."""
    java = shutil.which("java")
    if java is None:
        raise NodeRefused(f"There is no java on the PATH; Kafka needs Java {JAVA_MAJOR_MIN} or newer.")
    _, said = output_of([java, "-version"], START_SECONDS_MAX)
    found = re.search(r'version "(\d+)', said)
    if found is None or int(found[1]) < JAVA_MAJOR_MIN:
        raise NodeRefused(f"{java} is not Java {JAVA_MAJOR_MIN} or newer; it says: {said}")
    return java


def fetch(node: Node) -> None:
    """Have Maven copy the jars of this version to build/kafka, unless they are there."""
    if node.libs.is_dir():
        return
    maven = shutil.which("mvn")
    if maven is None:
        raise NodeRefused("There is no mvn on the PATH; Maven 3 fetches Kafka's jars before a first start.")
    node.libs.parent.mkdir(parents=True, exist_ok=True)
    # Moved into place when complete, so that an interrupted fetch is not taken for a whole one.
    with tempfile.TemporaryDirectory(dir=node.libs.parent) as partial:
        command = [maven, "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
        command += [f"-Dkafka.version={node.version}", f"-DoutputDirectory={partial}/libs"]
        fetched, said = output_of(command, FETCH_SECONDS_MAX)
        if not fetched:
            raise NodeRefused(f"Maven could not fetch Kafka {node.version}:\n{said}")
        Path(partial, "libs").rename(node.libs)


def refuse_taken(port: int) -> None:
    """Refuse a port that somebody listens on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as exc:
            raise NodeRefused(f"Port {port} cannot be had ({exc}); --port takes two in a row.") from exc


def write_properties(node: Node) -> Path:
    """Write the configuration anew, so that it always fits the port asked for."""
    node.home.mkdir(parents=True, exist_ok=True)
    template = string.Template((HERE / "server.properties").read_text(encoding="utf-8"))
    properties = node.home.resolve() / "server.properties"
    log_dir = properties.with_name("log")
    text = template.substitute(port=node.port, controller_port=node.port + 1, log_dir=log_dir)
    properties.write_text(text, encoding="utf-8")
    return properties


def java_command(node: Node, java: str, main_class: str) -> list[str]:
    """Return the start of a command that runs one of Kafka's classes, which prints warnings and worse."""
    return [java, HEAP, "-Dlog4j2.level=WARN", "-cp", f"{node.libs}/*", main_class]


def format_storage(node: Node, java: str, properties: Path) -> None:
    """Give the data directory a cluster id, once."""
    if properties.with_name("log").joinpath("meta.properties").exists():
        return
    command = [*java_command(node, java, "kafka.tools.StorageTool"), "format", "--ignore-formatted"]
    command += ["--cluster-id", CLUSTER_ID, "--config", str(properties)]
    formatted, said = output_of(command, START_SECONDS_MAX)
    if not formatted:
        raise NodeRefused(f"Kafka could not format {node.home}:\n{said}")


def launch(node: Node, java: str, properties: Path, mark: IO[str]) -> Popen[bytes]:
    """Start the node in a session of its own and hand it the locked pid file."""
    command = [*java_command(node, java, "kafka.Kafka"), str(properties)]
    with node.output.open("wb") as output:
        kept = (mark.fileno(),)
        process = Popen(
            command, stdin=DEVNULL, stdout=output, stderr=STDOUT, start_new_session=True, pass_fds=kept
        )
    mark.write(f"{process.pid}\n")
    mark.flush()
    return process


def wait_for_answer(node: Node, process: Popen[bytes]) -> None:
    """Wait until the node answers; end it if it does not, or if the person gives up waiting."""
    deadline = time.monotonic() + START_SECONDS_MAX
    try:
        while not answers(node.port):
            if process.poll() is not None or time.monotonic() > deadline:
                said = last_lines(node.output.read_text(encoding="utf-8", errors="replace"))
                raise NodeRefused(f"Kafka {node.version} did not start; {node.output} ends with:\n{said}")
            time.sleep(POLL_SECONDS)
    except BaseException:
        process.kill()
        process.wait()
        raise


def answers(port: int) -> bool:
    """Ask for the API versions: a broker serves requests only once it has registered with its controller."""
    request = struct.pack(">hhih", 18, 0, 1, -1)  # ApiVersions, version 0, correlation id 1, no client id
    try:
        with socket.create_connection(("127.0.0.1", port), PROBE_SECONDS_MAX) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as answer:
                head = answer.read(10)  # size, correlation id, error code
    except OSError:
        return False
    return len(head) == 10 and struct.unpack(">iih", head)[1:] == (1, 0)


@contextlib.contextmanager
def held(node: Node) -> Generator[IO[str] | None]:
    """Open the pid file if a node holds it, else give None."""
    if not node.pid_file.exists():
        yield None
        return
    with node.pid_file.open("r+") as mark:
        yield None if lock(mark) else mark


def lock(mark: IO[str]) -> bool:
    """Take the pid file's lock if nobody holds it."""
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def gone(mark: IO[str]) -> bool:
    """Wait until the node has let its pid file go."""
    deadline = time.monotonic() + STOP_SECONDS_MAX
    while not (free := lock(mark)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return free


def pid_in(mark: IO[str]) -> int:
    """Read the pid of the node that holds the file; a start that is still fetching has written none yet."""
    mark.seek(0)
    if not (text := mark.read().strip()).isdigit():
        raise NodeRefused("Another start is under way on this data directory; try again when it is done.")
    return int(text)


def last_lines(text: str) -> str:
    """Cut what a program said to its end."""
    return "\n".join(text.strip().splitlines()[-LOG_LINES_SHOWN:])


COMMANDS = {"start": start, "stop": stop, "status": status}


def main() -> int:
    """Obey one command line."""
    declared = ElementTree.parse(POM).findtext("{*}properties/{*}kafka.version")
    parser = argparse.ArgumentParser(description="One Apache Kafka node on loopback, not for production.")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--version", default=declared, help="of Apache Kafka, default %(default)s")
    parser.add_argument("--port", type=int, default=9092, help="default %(default)s; takes the next one too")
    parser.add_argument("--data-dir", type=Path, default=BUILD / "data", help="default build/kafka/data")
    asked = parser.parse_args()
    node = Node(version=asked.version, port=asked.port, data_dir=asked.data_dir)
    try:
        said = COMMANDS[asked.command](node)
    except (NodeRefused, TimeoutExpired, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    sys.stdout.write(f"{said}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
