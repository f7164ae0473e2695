"""What a person meets at the terminal: help, every fault at once, one sentence, and never a traceback."""

import contextlib
import os
import socket
import subprocess
import sys
from importlib.metadata import version

import pytest
from click.testing import CliRunner

from services.cli import main
from services.local.ports import free_ports

FOREIGN = ("KAFKA_", "CLICKHOUSE_", "ANTHROPIC_", "TOLLHOUSE_", "LITELLM_")
SECRET = "sk-ant-very-secret"
RUN_S_MAX = 30


def tollhouse(*arguments, **environ):
    """Run a command with nothing configured but what is given; the exit code, output and standard error."""
    clean = {name: None for name in os.environ if name.startswith(FOREIGN)}
    result = CliRunner().invoke(main, arguments, env={**clean, **environ})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@contextlib.contextmanager
def taken_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def written(tmp_path, text):
    path = tmp_path / "tollhouse.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", [None, *sorted(main.commands)])
def test_every_command_explains_itself(command, flag):
    code, out, err = tollhouse(*([command] if command else []), flag)
    assert (code, err) == (0, "")
    assert out.startswith("Usage: ")
    assert out.splitlines()[2].strip(), "help begins with what the command does"


def test_the_commands_are_those_that_the_pages_name():
    assert sorted(main.commands) == [
        "batch-tracker",
        "batches",
        "check-config",
        "dlq",
        "edge",
        "explain",
        "keys",
        "migrate",
        "prices",
        "rating",
        "replay",
        "reprice",
        "sink",
        "spool",
        "tail",
        "teams",
        "up",
        "verify",
    ]


def test_the_version_is_the_distributions():
    code, out, _ = tollhouse("--version")
    assert (code, out.split()[-1]) == (0, version("tollhouse"))


def test_a_configuration_without_faults_is_shown_without_its_secrets(tmp_path):
    path = written(
        tmp_path,
        f"edge:\n  master_key: {SECRET}-a\n  upstream: {{api_key: {SECRET}-b}}\nsink: {{port: 4999}}\n",
    )
    code, out, err = tollhouse("--config", str(path), "check-config", CLICKHOUSE_PASSWORD=f"{SECRET}-c")
    assert (code, err, out.splitlines()) == (
        0,
        "",
        [
            f"file      {path}, read as tollhouse.yaml",
            "edge      127.0.0.1:4000, callers show the master key",
            "upstream  https://api.anthropic.com with the gateway's credential, "
            f"edge.upstream.api_key of {path}",
            "batches   NOT followed: the batch tracker holds no credential, the edge default",
            "spool     .tollhouse/spool, at most 1073741824 bytes",
            "kafka     127.0.0.1:9092",
            "clickhouse  http://127.0.0.1:8123 as default",
            "the configuration has no faults",
        ],
    )


def test_check_config_says_which_batches_are_followed():
    _, out, _ = tollhouse("check-config", ANTHROPIC_API_KEY=f"{SECRET}-a")
    assert "batches   followed under the credential default" in out.splitlines()
    _, out, _ = tollhouse("check-config")
    assert "batches   booked when their results are read: they are made under each caller's own key" in out


def test_every_fault_of_every_room_is_printed_and_no_secret(tmp_path):
    path = written(
        tmp_path,
        f"""
edge:
  port: 70000
  master_key: [{SECRET}]
  upstream: {{base_url: "ftp://x", api_kee: {SECRET}}}
rating: {{port: -1}}
sink: {{block_rows_max: 0, group_id: ""}}
kafka: {{min_insync_replicas: 2}}
console: {{}}
""",
    )
    code, out, err = tollhouse("--config", str(path), "check-config", KAFKA_BOOTSTRAP_SERVERS="a:b")
    assert (code, out) == (2, "")
    heading, *faults = err.splitlines()
    assert heading == "tollhouse: the configuration has faults:"
    assert set(faults) == {
        "  - console: unknown section",
        "  - edge.master_key: Expected `str`, got `array`",
        "  - edge.upstream.api_kee: unknown setting",
        "  - edge.upstream.base_url: must be an http or https address",
        "  - kafka.bootstrap_servers: must name at least one host:port, with commas between them",
        "  - kafka.min_insync_replicas: must lie between 1 and replication_factor",
        "  - rating.port: must lie between 0 and 65535",
        "  - sink.block_rows_max: must be from 1 to 1000000",
        "  - sink.group_id: must not be empty",
    }


def test_the_environment_names_the_file_and_goes_before_it(tmp_path):
    path = written(tmp_path, "edge: {port: 4100, host: localhost}\nkafka: {bootstrap_servers: file:1}\n")
    _, out, _ = tollhouse("check-config", TOLLHOUSE_CONFIG=str(path), KAFKA_BOOTSTRAP_SERVERS="environment:2")
    assert out.splitlines()[:2] == [
        f"file      {path}, read as tollhouse.yaml",
        "edge      localhost:4100, callers show no key of the gateway's",
    ]
    assert "kafka     environment:2" in out.splitlines()


@pytest.mark.parametrize("command", ["check-config", "edge", "rating", "sink", "migrate", "tail", "up"])
def test_a_missing_file_is_one_sentence(tmp_path, command):
    path = tmp_path / "missing.yaml"
    assert tollhouse("--config", str(path), command) == (
        2,
        "",
        f"tollhouse: cannot read the configuration file {path}: No such file or directory.\n",
    )


@pytest.mark.parametrize("command", ["check-config", "edge", "rating", "sink", "migrate", "tail", "up"])
def test_a_file_that_is_not_yaml_is_one_sentence(tmp_path, command):
    path = written(tmp_path, f'edge:\n  master_key: "{SECRET}\n')
    assert tollhouse("--config", str(path), command) == (
        2,
        "",
        f"tollhouse: the configuration file {path} is not YAML in line 3, column 1.\n",
    )


@pytest.mark.parametrize("command", ["migrate", "tail"])
def test_a_kafka_that_cannot_be_reached_is_one_sentence(command):
    address = f"127.0.0.1:{free_ports(1)}"
    code, _, err = tollhouse(command, KAFKA_BOOTSTRAP_SERVERS=address)
    assert code == 2
    (line,) = err.splitlines()
    assert line.startswith(f"tollhouse: cannot reach Kafka at {address}: ")


@pytest.mark.parametrize(
    "arguments", [("tail", "--limit", "0"), ("up", "--port", "70000"), ("edge", "--prot", "1")]
)
def test_an_option_that_cannot_be_is_refused_with_the_usage(arguments):
    code, out, err = tollhouse(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: ")


@pytest.mark.parametrize("command", ["edge", "rating", "sink"])
def test_a_port_in_use_is_one_sentence_after_the_log(tmp_path, command):
    with taken_port() as port:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        environ |= {
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_ports(1)}",
            "CLICKHOUSE_URL": f"http://127.0.0.1:{free_ports(1)}",
            "TOLLHOUSE_SPOOL_DIRECTORY": str(tmp_path),
            f"TOLLHOUSE_{'' if command == 'edge' else command.upper() + '_'}PORT": str(port),
        }
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", command],
            env=environ,
            capture_output=True,
            text=True,
            timeout=RUN_S_MAX,
        )
    assert (done.returncode, done.stdout) == (2, "")
    is_told = '"config.credential"' in done.stderr and "none: callers come with their own" in done.stderr
    assert is_told == (command == "edge")
    assert done.stderr.splitlines()[-1] == (
        f"tollhouse {command}: cannot listen on 127.0.0.1:{port}: Address already in use."
    )
    assert "Traceback" not in done.stderr
