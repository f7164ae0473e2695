"""Finds Java and has Maven fetch the jars of one Kafka version; knows nothing of brokers."""

import re
import shutil
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, run

from layout import BUILD, HERE, NodeRefused

POM = HERE / "pom.xml"

JAVA_MAJOR_MIN = 17  # what Kafka 4 brokers need
JAVA_SECONDS_MAX = 60  # usually well below 3, also for formatting storage
FETCH_SECONDS_MAX = 600  # 45 MB of jars over a slow line
LOG_LINES_SHOWN = 15  # the reason stands at the end


def default_version() -> str:
    """Read the version that pom.xml declares."""
    declared = ElementTree.parse(POM).findtext("{*}properties/{*}kafka.version")
    assert declared is not None, "pom.xml declares kafka.version"
    return declared


def class_path(version: str) -> str:
    """Name the jars of a version, shared by all brokers."""
    return f"{_libs(version)}/*"


def java_found() -> str:
    """Return the java to run, refusing one that is missing or too old."""
    java = shutil.which("java")
    if java is None:
        raise NodeRefused(f"There is no java on the PATH; Kafka needs Java {JAVA_MAJOR_MIN} or newer.")
    _, said = output_of([java, "-version"], JAVA_SECONDS_MAX)
    found = re.search(r'version "(\d+)', said)
    if found is None or int(found[1]) < JAVA_MAJOR_MIN:
        raise NodeRefused(f"{java} is not Java {JAVA_MAJOR_MIN} or newer; it says: {said}")
    return java


def fetch(version: str) -> None:
    """Have Maven copy the jars of this version to build/kafka, unless they are there."""
    libs = _libs(version)
    if libs.is_dir():
        return
    maven = shutil.which("mvn")
    if maven is None:
        raise NodeRefused("There is no mvn on the PATH; Maven 3 fetches Kafka's jars before a first start.")
    libs.parent.mkdir(parents=True, exist_ok=True)
    # Moved into place when complete, so that an interrupted fetch is not taken for a whole one.
    with tempfile.TemporaryDirectory(dir=libs.parent) as partial:
        command = [maven, "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
        command += [f"-Dkafka.version={version}", f"-DoutputDirectory={partial}/libs"]
        fetched, said = output_of(command, FETCH_SECONDS_MAX)
        if not fetched:
            raise NodeRefused(f"Maven could not fetch Kafka {version}:\n{said}")
        Path(partial, "libs").rename(libs)


def output_of(command: list[str], seconds_max: float) -> tuple[bool, str]:
    """Run a program to its end: did it succeed, and the last lines it said."""
    done = run(
        command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, text=True, check=False, timeout=seconds_max
    )
    return done.returncode == 0, last_lines(done.stdout)


def last_lines(text: str) -> str:
    """Cut what a program said to its end."""
    return "\n".join(text.strip().splitlines()[-LOG_LINES_SHOWN:])


def _libs(version: str) -> Path:
    return BUILD / version / "libs"
