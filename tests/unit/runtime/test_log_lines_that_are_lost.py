"""No log line may cost an exchange: what standard error does not take is counted, and that is all."""

import subprocess
import sys

PROGRAM = """
import logging, os, sys
import structlog
from services.runtime import metrics
from services.runtime.telemetry import configure_logging

configure_logging("edge")
reading, writing = os.pipe()
os.close(reading)
os.dup2(writing, 2)
structlog.get_logger().info("exchange.finished", request_id="r")
structlog.get_logger().error("spool.append_failed")
logging.getLogger("some.library").error("cannot be told")
print(metrics.log_lines_lost._value.get(), flush=True)
os._exit(0)
"""


def test_a_standard_error_that_nobody_reads_stops_nothing():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "2.0")
