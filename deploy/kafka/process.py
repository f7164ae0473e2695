"""Runs one broker as a process that outlives the command: prepares, launches, probes and ends it."""

import contextlib
import fcntl
import os
import signal
import socket
import string
import struct
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from typing import IO

from jars import JAVA_SECONDS_MAX, class_path, last_lines, output_of
from layout import HERE, Broker, NodeRefused, why_taken

CLUSTER_ID = "tollhouse-local-kafka0"  # 22 characters of URL-safe base64, as Kafka wants it
HEAP_ALONE = "-Xmx512m"  # a few topics need a quarter of it; the rest is for large batches
HEAP_OF_SEVERAL = "-Xmx384m"
MIN_INSYNC_OF_SEVERAL = 2  # of three: one broker may be away
# Usually 2 to 5, 15 after a kill: the controller waits out the broker's former session.
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 30  # usually below 1; then the broker is killed, which Kafka survives
PROBE_SECONDS_MAX = 2  # a broker that takes longer to list its versions is not ready
POLL_SECONDS = 0.1


def launch(broker: Broker, cluster: Sequence[Broker], java: str) -> Popen[bytes]:
    """Configure, format and start a broker; it locks its pid file as long as it lives."""
    broker.folder.mkdir(parents=True, exist_ok=True)
    with broker.pid_file.open("a+") as mark:
        if not _lock(mark):
            raise NodeRefused(
                f"A broker already runs on {broker.folder} (pid {_pid_in(mark)}); stop it first."
            )
        mark.truncate(0)
        for port in (broker.port, broker.controller_port):
            if (reason := why_taken(port)) is not None:
                raise NodeRefused(f"Port {port} cannot be had ({reason}); a broker takes two in a row.")
        heap = HEAP_ALONE if len(cluster) == 1 else HEAP_OF_SEVERAL
        run_class = [java, heap, "-Dlog4j2.level=WARN", "-cp", class_path(broker.version)]
        properties = _write_properties(broker, cluster)
        _format_storage(broker, run_class, properties)
        with broker.output.open("wb") as output:
            process = Popen(
                [*run_class, "kafka.Kafka", str(properties)],
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                start_new_session=True,
                pass_fds=(mark.fileno(),),
            )
        mark.write(f"{process.pid}\n")
    return process


def wait_for_answer(broker: Broker, process: Popen[bytes]) -> None:
    """Wait until the broker answers, refusing one that ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while not answers(broker.port):
        if process.poll() is not None or time.monotonic() > deadline:
            said = last_lines(broker.output.read_text(encoding="utf-8", errors="replace"))
            raise NodeRefused(f"Kafka {broker.version} did not start; {broker.output} ends with:\n{said}")
        time.sleep(POLL_SECONDS)


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


def running_pid(broker: Broker) -> int | None:
    """Give the pid of the broker that holds the folder, if one does."""
    with _held(broker) as mark:
        return None if mark is None else _pid_in(mark)


def ask_to_end(broker: Broker) -> None:
    """Send SIGTERM, if the broker runs."""
    with _held(broker) as mark:
        if mark is not None:
            os.kill(_pid_in(mark), signal.SIGTERM)


def wait_until_ended(broker: Broker, seconds_max: float) -> bool:
    """Wait until nobody holds the folder: the broker is gone and its ports are free."""
    deadline = time.monotonic() + seconds_max
    while (running := running_pid(broker)) is not None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return running is None


def kill(broker: Broker) -> None:
    """End the broker with SIGKILL, if it runs, and return once it is gone."""
    with _held(broker) as mark:
        if mark is None:
            return
        pid = _pid_in(mark)
        os.kill(pid, signal.SIGKILL)
    if not wait_until_ended(broker, STOP_SECONDS_MAX):
        raise NodeRefused(f"The broker with pid {pid} did not end; see {broker.output}.")


def _write_properties(broker: Broker, cluster: Sequence[Broker]) -> Path:
    """Write the configuration anew, so that it always fits the ports asked for."""
    broker.home.mkdir(parents=True, exist_ok=True)
    template = string.Template((HERE / "server.properties").read_text(encoding="utf-8"))
    properties = broker.home.resolve() / "server.properties"
    text = template.substitute(
        number=broker.number,
        port=broker.port,
        controller_port=broker.controller_port,
        voters=",".join(f"{one.number}@127.0.0.1:{one.controller_port}" for one in cluster),
        replicas=len(cluster),
        min_insync=min(len(cluster), MIN_INSYNC_OF_SEVERAL),
        log_dir=properties.with_name("log"),
    )
    properties.write_text(text, encoding="utf-8")
    return properties


def _format_storage(broker: Broker, run_class: list[str], properties: Path) -> None:
    """Give the data directory a cluster id, once."""
    if properties.with_name("log").joinpath("meta.properties").exists():
        return
    command = [*run_class, "kafka.tools.StorageTool", "format", "--ignore-formatted"]
    command += ["--cluster-id", CLUSTER_ID, "--config", str(properties)]
    formatted, said = output_of(command, JAVA_SECONDS_MAX)
    if not formatted:
        raise NodeRefused(f"Kafka could not format {broker.home}:\n{said}")


@contextlib.contextmanager
def _held(broker: Broker) -> Generator[IO[str] | None]:
    """Open the pid file if a broker holds it, else give None."""
    if not broker.pid_file.exists():
        yield None
        return
    with broker.pid_file.open("r+") as mark:
        yield None if _lock(mark) else mark


def _lock(mark: IO[str]) -> bool:
    """Take the pid file's lock if nobody holds it."""
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid_in(mark: IO[str]) -> int:
    """Read the pid of the broker that holds the file; a start that is not done has written none yet."""
    mark.seek(0)
    if not (text := mark.read().strip()).isdigit():
        raise NodeRefused("Another start is under way on this data directory; try again when it is done.")
    return int(text)
