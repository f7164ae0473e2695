"""Either kind of file, as a person meets it: what was read, what is left out, every fault, and no secret."""

import json

import pytest

from services.cli import config_schema, settings
from services.runtime import config
from services.runtime.config import ConfigFaults
from tests.unit.cli.test_commands import tollhouse

SECRET = "sk-ant-very-secret"
LITELLM = """
model_list:
  - model_name: claude-sonnet-5
    litellm_params: {model: anthropic/claude-sonnet-5, api_key: os.environ/PROD_KEY,
                     use_in_pass_through: true}
litellm_settings: {callbacks: [langfuse], drop_params: true}
general_settings: {master_key: os.environ/LITELLM_MASTER_KEY, custom_auth: mine.auth}
"""


@pytest.fixture
def proxy_config(tmp_path):
    path = tmp_path / "proxy_config.yaml"
    path.write_text(LITELLM)
    return path


def test_a_litellm_file_is_shown_with_what_is_left_out(proxy_config):
    code, out, err = tollhouse(
        "--config", str(proxy_config), "check-config", PROD_KEY=SECRET, LITELLM_MASTER_KEY=f"{SECRET}-m"
    )
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"file      {proxy_config}, read as LiteLLM's proxy_config.yaml",
        "edge      127.0.0.1:4000, callers show the master key",
        "upstream  https://api.anthropic.com with the gateway's credential, "
        f"model_list[0].litellm_params.api_key of {proxy_config}",
        "batches   followed under the credential default",
        "spool     .tollhouse/spool, at most 1073741824 bytes",
        "kafka     127.0.0.1:9092",
        "clickhouse  http://127.0.0.1:8123 as default",
        "ignored   litellm_settings.callbacks: nothing is sent to it, and bodies to nobody: "
        "subscribe to gateway.rated.v1",
        "ignored   litellm_settings.drop_params",
        "ignored   general_settings.custom_auth: callers are known by keys alone: whom it would let in is "
        "answered 401",
        "the configuration has no faults",
    ]


@pytest.mark.parametrize("command", ["check-config", "edge"])
def test_keys_that_the_environment_does_not_hold_are_all_named_before_an_edge_starts(proxy_config, command):
    assert tollhouse("--config", str(proxy_config), command) == (
        2,
        "",
        "tollhouse: the configuration has faults:\n"
        "  - general_settings.master_key: the environment variable LITELLM_MASTER_KEY is not set\n"
        "  - model_list[0].litellm_params.api_key: the environment variable PROD_KEY is not set\n",
    )


def test_what_the_file_marks_is_not_replaced_by_another_key_that_happens_to_be_there(proxy_config):
    code, _, err = tollhouse(
        "--config", str(proxy_config), "check-config", ANTHROPIC_API_KEY=SECRET, LITELLM_MASTER_KEY="sk-m"
    )
    assert (code, err.splitlines()[1:]) == (
        2,
        ["  - model_list[0].litellm_params.api_key: the environment variable PROD_KEY is not set"],
    )


@pytest.mark.parametrize(
    ("environ", "used", "origin"),
    [
        ({}, "file", "model_list[0].litellm_params.api_key of {path}"),
        ({"ANTHROPIC_API_KEY": "env"}, "file", "model_list[0].litellm_params.api_key of {path}"),
        ({"ANTHROPIC_AUTH_TOKEN": "env"}, "file", "model_list[0].litellm_params.api_key of {path}"),
        ({"TOLLHOUSE_ANTHROPIC_API_KEY": "ours"}, "ours", "TOLLHOUSE_ANTHROPIC_API_KEY of the environment"),
    ],
)
def test_whose_credential_wins_over_a_marked_entry_and_where_it_came_from(
    proxy_config, environ, used, origin
):
    """As LiteLLM has it; what begins with TOLLHOUSE_ was set for this gateway and goes before any file."""
    environ = {"PROD_KEY": "file", "LITELLM_MASTER_KEY": "sk-m", **environ}
    source = settings.read(proxy_config, environ)
    loaded = settings.settings_of(source, environ, {}, settings.SECTIONS)
    assert (loaded.edge.upstream.api_key, loaded.batch_tracker.upstream.api_key) == (used, used)
    assert {settings.credential_origin(source, environ, room) for room in ("edge", "batch_tracker")} == {
        origin.format(path=proxy_config)
    }


@pytest.mark.parametrize(
    ("environ", "used", "origin"),
    [
        ({"UNMARKED": "file"}, ("", ""), ""),
        ({"ANTHROPIC_API_KEY": "key"}, ("key", ""), "ANTHROPIC_API_KEY of the environment"),
        ({"ANTHROPIC_AUTH_TOKEN": "token"}, ("", "token"), "ANTHROPIC_AUTH_TOKEN of the environment"),
        (
            {"ANTHROPIC_AUTH_TOKEN": "token", "ANTHROPIC_API_KEY": "key"},
            ("key", "token"),
            "ANTHROPIC_API_KEY of the environment",
        ),
    ],
)
def test_an_entry_that_is_not_marked_is_nobodys_credential(tmp_path, environ, used, origin):
    path = tmp_path / "proxy_config.yaml"
    path.write_text(
        "model_list: [{model_name: a, litellm_params: {model: anthropic/a, api_key: os.environ/UNMARKED}}]"
    )
    source = settings.read(path, environ)
    upstream = settings.settings_of(source, environ, {}, settings.SECTIONS).edge.upstream
    assert (upstream.api_key, upstream.auth_token) == used
    assert settings.credential_origin(source, environ, "edge") == origin


def test_a_master_key_in_the_file_goes_before_litellms_variable_and_behind_ours(tmp_path):
    path = tmp_path / "proxy_config.yaml"
    path.write_text("general_settings: {master_key: sk-file}\n")
    for environ, expected in (
        ({"LITELLM_MASTER_KEY": "sk-env"}, "sk-file"),
        ({"LITELLM_MASTER_KEY": "sk-env", "TOLLHOUSE_MASTER_KEY": "sk-ours"}, "sk-ours"),
    ):
        assert settings.load(path, environ, {}).edge.master_key == expected


def test_the_origin_of_a_credential_in_a_file_of_ours_is_its_setting(tmp_path):
    path = tmp_path / "tollhouse.yaml"
    path.write_text(f"edge: {{upstream: {{api_key: {SECRET}}}}}\n")
    source = settings.read(path, {})
    assert settings.credential_origin(source, {}, "edge") == f"edge.upstream.api_key of {path}"
    environ = {"ANTHROPIC_API_KEY": "sk-ant-env"}
    assert settings.credential_origin(source, environ, "edge") == "ANTHROPIC_API_KEY of the environment"


def test_a_service_that_holds_no_key_of_the_edges_reads_the_same_file(proxy_config):
    assert settings.load(proxy_config, {}, {}).rating.port == 4011


def test_a_fault_is_named_by_both_files_words(tmp_path):
    path = tmp_path / "proxy_config.yaml"
    path.write_text(f"general_settings: {{master_key: [{SECRET}], pass_through_request_timeout: 0}}\n")
    with pytest.raises(ConfigFaults) as caught:
        settings.load(path, {}, {})
    assert caught.value.faults == (
        "edge.master_key (from general_settings.master_key): Expected `str`, got `array`",
        "edge.upstream.read_s_max (from general_settings.pass_through_request_timeout): must be above 0",
    )


def test_a_file_of_both_kinds_is_refused(tmp_path):
    path = tmp_path / "both.yaml"
    path.write_text("general_settings: {}\nedge: {port: 1}\n")
    with pytest.raises(ConfigFaults) as caught:
        settings.load(path, {}, {})
    assert caught.value.faults == ("edge: a LiteLLM file has no such section; use the environment",)


def test_the_schema_beside_the_example_is_up_to_date():
    assert config_schema.main(["--check"]) == 0


def test_every_setting_of_the_example_says_what_it_is_for():
    example = (config_schema.DEPLOY / config_schema.EXAMPLE).read_text()
    named = {
        path for path, _ in config.leaves(config.read_file(config_schema.DEPLOY / config_schema.EXAMPLE))
    }
    assert named - dict(config_schema.comments(example)).keys() == set()


def test_the_schema_knows_every_setting_with_its_default():
    schema = json.loads((config_schema.DEPLOY / config_schema.SCHEMA).read_text())
    assert dict(config.leaves(_defaults(schema))) == dict(
        config.leaves(config.read_file(config_schema.DEPLOY / config_schema.EXAMPLE))
    )


def _defaults(schema):
    if "properties" not in schema:
        return schema["default"]
    assert schema["additionalProperties"] is False
    return {name: _defaults(below) for name, below in schema["properties"].items()}


def test_an_outdated_schema_is_said_and_mended(tmp_path, capsys):
    (tmp_path / config_schema.EXAMPLE).write_text("edge:\n  port: 4000  # where it listens\n")
    assert config_schema.main(["--check"], tmp_path) == 1
    assert capsys.readouterr().err == "out of date: deploy/tollhouse.schema.json (run: make schemas)\n"
    assert config_schema.main([], tmp_path) == config_schema.main(["--check"], tmp_path) == 0
    port = json.loads((tmp_path / config_schema.SCHEMA).read_text())["properties"]["edge"]["properties"][
        "port"
    ]
    assert port == {"description": "where it listens", "type": "integer", "default": 4000}
