"""SIGHUP: a service reads its settings again or says that it does not; a command goes with its terminal."""

import json
import signal
import subprocess
import sys

from tests.unit.runtime.test_process import RUN_S_MAX, script

IGNORING = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"


def running(program):
    """A process that has said that it runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "running\n"
    return process


WAITS = 'print("running", flush=True)\nawait stopping.wait()'


def test_a_command_stops_in_order_when_its_terminal_goes_away():
    with running(script("command", WAITS)) as process:
        process.send_signal(signal.SIGHUP)
        assert process.communicate(timeout=RUN_S_MAX) == ("", "")
    assert process.returncode == 0


def test_a_command_that_nohup_started_stays():
    body = """
import os, signal
later = asyncio.Event()
asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, later.set)
for number in (signal.SIGHUP, signal.SIGUSR1):
    os.kill(os.getpid(), number)
await later.wait()
print("asked to stop:", stopping.is_set())
"""
    done = subprocess.run(
        [sys.executable, "-c", IGNORING + script("command", body)],
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "asked to stop: False\n", "")


def test_a_service_that_cannot_reload_says_so_and_goes_on():
    with running(script("service", WAITS)) as process:
        process.send_signal(signal.SIGHUP)
        line = json.loads(process.stderr.readline())
        assert (line["event"], line["level"]) == ("config.kept", "warning")
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=RUN_S_MAX) == ("", "")
    assert process.returncode == 0


def test_a_service_that_can_reload_does_so_at_each_signal_and_once_at_a_time():
    body = """
from services.runtime.service import on_hangup
reading = 0
async def reread():
    nonlocal reading
    reading += 1
    assert reading == 1
    print("began", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    reading -= 1
async with beside(on_hangup(reread)):
    await asyncio.sleep(0)
    print("running", flush=True)
    await stopping.wait()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script("service", body)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "began\n"
        for _ in range(3):
            process.send_signal(signal.SIGHUP)
        for _ in range(2):
            process.stdin.write("\n")
            process.stdin.flush()
        assert process.stdout.readline() == "began\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=RUN_S_MAX) == ("", "")
    assert process.returncode == 0
