"""`tollhouse up` begins clearly, ends quickly, loses nothing, and finds everything again."""

import os
import signal
import socket
import subprocess
import time

import pytest
from anthropic import Anthropic

from services.local.ports import free_ports
from tests.e2e.conftest import ROOT, Stack, clean_environ, up_command

STOP_S_MAX = 10.0
ASK = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "toll"}],
}
COUNT = "SELECT request_id FROM tollhouse.usage"


def ask(stack, times=1):
    client = Anthropic(base_url=stack.base_url, api_key="sk-any", max_retries=0)
    for _ in range(times):
        client.messages.create(**ASK)


def test_a_stack_stops_within_ten_seconds_and_a_second_one_finds_everything_again(tmp_path):
    stack = Stack(tmp_path, "--simulate")
    ask(stack, times=20)
    began = time.monotonic()
    assert stack.stop() == 0  # at once: most of the events are still on their way
    assert time.monotonic() - began < STOP_S_MAX
    stack.start()
    ask(stack)
    rows = stack.rows(COUNT, 21)
    assert stack.stop() == 0
    assert len({row[0] for row in rows}) == len(rows) == 21


def test_ctrl_c_stops_a_stack_as_well(tmp_path):
    stack = Stack(tmp_path, "--simulate")
    stack.process.send_signal(signal.SIGINT)
    assert stack.stop() == 0


@pytest.mark.parametrize("child", ["edge", "rating", "sink", "kafka", "clickhouse"])
def test_a_killed_part_ends_the_stack_with_a_sentence_and_loses_no_usage(tmp_path, child):
    stack = Stack(tmp_path, "--simulate")
    ask(stack, times=5)
    os.kill(stack.pid_of(child), signal.SIGKILL)
    assert stack.process.wait(STOP_S_MAX * 2) == 1
    stack._reader.join()
    assert stack.lines[-1].startswith(f"tollhouse: {child} ended with exit code -9")
    stack.start()
    rows = stack.rows(COUNT, 5)
    stack.stop()
    assert len({row[0] for row in rows}) == len(rows) == 5


def refused(*options, **environ):
    done = subprocess.run(
        up_command(*options),
        cwd=ROOT,
        env=clean_environ(**environ),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_port_in_use_is_one_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refused("--data-dir", tmp_path, "--port", free_ports(4), "--kafka-port", port) == (
            2,
            "",
            f"tollhouse: port {port} (kafka) is in use; choose another with --kafka-port.\n",
        )


def test_a_data_directory_in_use_is_one_sentence(simulated_stack):
    code, said, error = refused("--data-dir", simulated_stack.data_dir, "--port", free_ports(4))
    assert (code, said) == (2, "")
    assert error == (
        f"tollhouse: the data directory {simulated_stack.data_dir} is in use by another stack: "
        "stop it, or give another --data-dir.\n"
    )


def test_a_configuration_with_faults_names_all_of_them(tmp_path):
    settings = tmp_path / "tollhouse.yaml"
    settings.write_text("edge: {prot: 1, body_bytes_max: many}\nsinc: {}\n")
    code, said, error = refused("--data-dir", tmp_path / "data", TOLLHOUSE_CONFIG=str(settings))
    assert (code, said) == (2, "")
    assert [line.strip() for line in error.splitlines()] == [
        "tollhouse: the configuration has faults:",
        "- sinc: unknown section",
        "- edge.prot: unknown setting",
        "- edge.body_bytes_max: Expected `int`, got `str`",
    ]


def test_a_missing_extra_is_one_sentence(tmp_path):
    """The extra is there in every checkout, so the program is told otherwise where it looks."""
    program = (
        "import importlib.util, sys; find = importlib.util.find_spec;"
        "importlib.util.find_spec = lambda name, *more: None if name == 'chdb' else find(name, *more);"
        "from services.cli import main; main()"
    )
    argv = [up_command()[0], "-c", program, "up", "--data-dir", str(tmp_path), "--port", str(free_ports(4))]
    argv += ["--kafka-port", str(free_ports(1)), "--clickhouse-port", str(free_ports(1))]
    done = subprocess.run(argv, cwd=ROOT, env=clean_environ(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "tollhouse: the local ClickHouse needs the extra `local`: pip install 'tollhouse[local]', "
        "or set CLICKHOUSE_URL to a server that is there.\n"
    )
