"""Runs the Kafka tests against Apache Kafka, one broker, then three; stops what it started, whatever happens.

Exit codes: 0 all passed; 2 not run, with a sentence on stderr; else what pytest gave. Run it with the Python
that has the tests' dependencies. What follows `--` goes to pytest.
"""

import argparse
import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

import node
from layout import BUILD, NodeRefused

ROOT = BUILD.parents[1]
DATA = BUILD / "check"
LOCK = BUILD / "check.lock"
EXIT_REFUSED = 2
INTERRUPTED_SECONDS_MAX = 5  # for pytest to say how far it came
NOTHING_COLLECTED = (
    5  # pytest's word for an empty selection: with `-k`, one of the two runs may have nothing to do
)


def main() -> int:
    """Run both suites and give the first failure's code."""
    parser = argparse.ArgumentParser(description="The Kafka tests against Apache Kafka.")
    parser.add_argument("--version", help="of Apache Kafka, default: the one in pom.xml")
    parser.add_argument(
        "--only", choices=("one", "three"), help="only against one broker, or only against three"
    )
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, behind --")
    asked = parser.parse_args()
    if importlib.util.find_spec("pytest") is None:
        sys.stderr.write(f"{sys.executable} has no pytest; make setup makes .venv, which has.\n")
        return EXIT_REFUSED
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(EXIT_REFUSED))
    try:
        with _alone():
            return _checked(asked)
    except NodeRefused as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return EXIT_REFUSED


def _checked(asked: argparse.Namespace) -> int:
    codes: list[int] = []
    if asked.only != "three":
        with _brokers(1, asked.version) as servers:
            environment = {"KAFKA_BOOTSTRAP_SERVERS": servers}
            codes.append(_tested("kafka", environment, asked.pytest))
    if asked.only != "one":
        with _brokers(3, asked.version):
            environment = {"TOLLHOUSE_TEST_KAFKA_CLUSTER": str(_data_dir(3))}
            codes.append(_tested("kafka_cluster", environment, asked.pytest))
    found = [code for code in codes if code != NOTHING_COLLECTED]
    return next((code for code in found if code != 0), 0 if found else NOTHING_COLLECTED)


@contextlib.contextmanager
def _alone() -> Generator[None]:
    """Keep a second check away: it would stop the brokers of the first."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise NodeRefused("Another check is under way here; wait for its end.") from exc
        yield


@contextlib.contextmanager
def _brokers(count: int, version: str | None) -> Generator[str]:
    """Run so many brokers on empty data for the length of a block, and give their addresses."""
    data_dir = _data_dir(count)
    running = argparse.Namespace(data_dir=data_dir, broker=None)
    # A check that was killed may have left its own behind.
    node.stop(running)
    shutil.rmtree(data_dir, ignore_errors=True)
    chosen = ["--version", version] if version else []
    try:
        _start("--brokers", str(count), "--port", "0", "--data-dir", str(data_dir), *chosen)
        yield node.servers(running)
    finally:
        node.stop(running)


def _data_dir(count: int) -> Path:
    return DATA / str(count)


def _start(*arguments: str) -> None:
    if node.main(["start", *arguments]) != 0:
        raise NodeRefused("Kafka was not to be had, so its tests did not run.")


def _tested(suite: str, environment: dict[str, str], arguments: Sequence[str]) -> int:
    """Run pytest on one suite, and leave nothing of it behind: it may be starting a broker."""
    command = [sys.executable, "-m", "pytest", "-q", f"tests/integration/{suite}", *arguments]
    sys.stdout.flush()
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, process_group=0)
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(INTERRUPTED_SECONDS_MAX)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
