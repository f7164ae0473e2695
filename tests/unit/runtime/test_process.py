"""How a process speaks and ends: lines of JSON, one sentence for a person, an exit code that tells."""

import json
import signal
import subprocess
import sys

import pytest

RUN_S_MAX = 20


def script(entry, body):
    """A program whose life is `body`, the inside of `main(stopping)`."""
    inside = "\n".join(f"    {line}" for line in body.strip().splitlines())
    call = {"service": 'run_service("room", main)', "command": "run_command(main)"}[entry]
    return f"""
import asyncio, logging, sys, warnings
import structlog
from services.runtime.errors import ServiceStopped, StartRefused
from services.runtime.service import beside, run_command, run_service
log = structlog.get_logger()
async def main(stopping):
{inside}
sys.exit({call})
"""


def outcome(entry, body):
    """The exit code and the lines on standard error; standard output must stay empty."""
    done = subprocess.run(
        [sys.executable, "-c", script(entry, body)], capture_output=True, text=True, timeout=RUN_S_MAX
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def events(lines):
    """The lines as JSON, without what differs from run to run."""
    found = [json.loads(line) for line in lines]
    for line in found:
        line.pop("timestamp", None)
    return found


def test_a_service_that_ends_in_order_exits_0_and_says_nothing():
    assert outcome("service", "return") == (0, [])


def test_a_refusal_is_exit_code_2_one_line_of_log_and_one_sentence():
    code, lines = outcome("service", 'raise StartRefused("the port is taken.")')
    assert (code, lines[1:]) == (2, ["tollhouse room: the port is taken."])
    assert events(lines[:1]) == [
        {"event": "service.refused", "level": "error", "reason": "the port is taken.", "service": "room"}
    ]


def test_a_service_that_stops_itself_is_exit_code_1_and_says_why():
    code, lines = outcome("service", 'raise ServiceStopped("a limit was reached")')
    assert (code, events(lines)) == (
        1,
        [{"event": "service.stopped", "level": "error", "reason": "a limit was reached", "service": "room"}],
    )


def test_a_bug_is_exit_code_1_and_its_traceback_is_one_line_of_log():
    code, lines = outcome("service", "{}['missing']")
    (line,) = events(lines)
    traceback = line.pop("exception")
    assert (code, line) == (1, {"event": "service.failed", "level": "error", "service": "room"})
    assert traceback.startswith("Traceback (most recent call last):")
    assert traceback.endswith("KeyError: 'missing'")


@pytest.mark.parametrize(("error", "code"), [("StartRefused", 2), ("ServiceStopped", 1)])
def test_what_ended_a_group_of_tasks_is_found_among_its_consequences(error, code):
    body = f"""
async def fails():
    raise {error}("the cause")
async def follows():
    try:
        await asyncio.Event().wait()
    finally:
        raise ValueError("a consequence")
async with beside(follows(), fails()):
    await asyncio.Event().wait()
"""
    found, lines = outcome("service", body)
    assert (found, events(lines[:1])[0]["reason"]) == (code, "the cause")


def test_a_refusal_before_the_tasks_beside_it_have_begun_is_the_only_thing_said():
    body = """
async def works():
    await asyncio.Event().wait()
async with beside(works()):
    raise StartRefused("the port is taken.")
"""
    code, lines = outcome("service", body)
    assert (code, lines[1:]) == (2, ["tollhouse room: the port is taken."])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return", (0, [])),
        ('raise StartRefused("no Kafka.")', (2, ["tollhouse: no Kafka."])),
        ('raise ServiceStopped("a child ended.")', (1, ["tollhouse: a child ended."])),
    ],
)
def test_a_command_speaks_plainly(body, expected):
    assert outcome("command", body) == expected


@pytest.mark.parametrize("entry", ["service", "command"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_it_to_stop_and_that_is_a_success(entry, number):
    body = 'print("running", flush=True)\nawait stopping.wait()'
    with subprocess.Popen(
        [sys.executable, "-c", script(entry, body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(number)
        assert process.communicate(timeout=RUN_S_MAX) == ("", "")
    assert process.returncode == 0


def test_every_line_is_an_object_with_its_time_level_and_service():
    body = 'log.warning("thing.happened", count=3, path=__import__("pathlib").Path("/x"), raw=b"\\xff")'
    code, lines = outcome("service", body)
    (line,) = [json.loads(line) for line in lines]
    assert line.pop("timestamp").endswith("Z")
    assert (code, line) == (
        0,
        {
            "event": "thing.happened",
            "level": "warning",
            "service": "room",
            "count": 3,
            "path": "/x",
            "raw": "/w==",
        },
    )


def test_what_libraries_say_is_in_the_same_shape():
    body = """
logging.getLogger("some.library").warning("odd: %s", "a\\nb")
logging.getLogger("some.library").info("chatter")
logging.getLogger("aiokafka").error("one more retry")
try:
    {}["missing"]
except KeyError:
    logging.getLogger("some.library").exception("failed")
warnings.warn("deprecated by a library", UserWarning)
"""
    code, lines = outcome("service", body)
    found = events(lines)
    traceback = found[1].pop("exception")
    message = found[2].pop("message")
    library = {"event": "library.logged", "service": "room"}
    assert (code, found) == (
        0,
        [
            {**library, "level": "warning", "logger": "some.library", "message": "odd: a\nb"},
            {**library, "level": "error", "logger": "some.library", "message": "failed"},
            {**library, "level": "warning", "logger": "py.warnings"},
        ],
    )
    assert traceback.endswith("KeyError: 'missing'")
    assert "UserWarning: deprecated by a library" in message


def test_a_text_that_is_no_unicode_does_not_end_the_process():
    """A path on disk may hold any bytes; Python shows them as lone surrogates."""
    code, lines = outcome("service", 'log.warning("thing.happened", path="/spool/\\udcff")')
    assert code == 0
    assert events(lines)[0]["event"] == "thing.happened"
