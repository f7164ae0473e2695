"""The configuration: every fault at once, the environment before the file, and no secret in a fault."""

from collections.abc import Iterable
from typing import Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.runtime.config import (
    ConfigFaults,
    Variable,
    decode,
    leaves,
    overlay,
    override,
    read_file,
)
from services.runtime.errors import StartRefused
from services.runtime.kafka import KafkaConfig

SECRET = "sk-ant-very-secret"


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    url: str = "http://one"
    key: str = ""
    mode: Literal["drain", "cancel"] = "drain"

    def faults(self) -> Iterable[str]:
        if not self.url.startswith("http"):
            yield "url: must be an http address"


class Room(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    port: int = 4000
    ratio: float = 0.5
    is_open: bool = False
    inner: Inner = Inner()

    def faults(self) -> Iterable[str]:
        if self.port > 65535:
            yield "port: must not be above 65535"


class Other(msgspec.Struct, frozen=True, kw_only=True):
    size: int = 1


SECTIONS = {"room": Room, "other": Other}
VARIABLES = (
    Variable("ROOM_PORT", "room.port"),
    Variable("ROOM_URL", "room.inner.url"),
    Variable("OTHER_URL", "room.inner.url"),
    Variable("ROOM_OPEN", "room.is_open"),
)


def faults_of(settings) -> tuple[str, ...]:
    with pytest.raises(ConfigFaults) as caught:
        decode(settings, SECTIONS)
    assert str(caught.value) == "the configuration has faults:\n" + "\n".join(
        f"  - {fault}" for fault in caught.value.faults
    )
    return caught.value.faults


def test_what_is_not_said_has_its_default():
    assert decode({"room": {"name": "a"}}, SECTIONS) == {"room": Room(name="a"), "other": Other()}


def test_an_empty_section_is_a_section_without_settings():
    assert decode({"room": {"name": "a", "inner": None}, "other": None}, SECTIONS) == {
        "room": Room(name="a"),
        "other": Other(),
    }


def test_every_fault_of_every_section_is_named_at_once():
    faults = faults_of(
        {
            "kitchen": {},
            "room": {
                "port": "four",
                "ratio": [],
                "colour": "red",
                "inner": {"url": 3, "mode": "wait", "speed": 1},
            },
            "other": {"size": None, "sise": 2},
        }
    )
    assert set(faults) == {
        "kitchen: unknown section",
        "room.colour: unknown setting",
        "room.name: is required",
        "room.port: Expected `int`, got `str`",
        "room.ratio: Expected `float`, got `array`",
        "room.inner.speed: unknown setting",
        "room.inner.url: Expected `str`, got `int`",
        "room.inner.mode: Invalid enum value 'wait'",
        "other.sise: unknown setting",
        "other.size: Expected `int`, got `null`",
    }
    assert len(faults) == len(set(faults))


def test_a_misfit_is_named_beside_unknown_settings_and_the_misfits_within():
    assert faults_of(
        {"room": {"name": "a", "port": 70_000, "prot": 1, "inner": {"url": "ftp:", "uri": ""}}}
    ) == (
        "room.prot: unknown setting",
        "room.inner.uri: unknown setting",
        "room.inner.url: must be an http address",
        "room.port: must not be above 65535",
    )


def test_settings_that_cannot_be_read_are_not_said_to_misfit():
    assert faults_of({"room": {"name": 1, "port": 70_000}}) == ("room.name: Expected `str`, got `int`",)


@pytest.mark.parametrize("settings", [{"room": 5}, {"room": ["name"]}, {"room": {"name": "a", "inner": "x"}}])
def test_a_section_that_is_no_mapping_is_named(settings):
    (fault,) = faults_of(settings)
    assert fault.endswith(": must be a mapping")


def test_a_secret_of_the_wrong_type_is_not_quoted():
    faults = faults_of({"room": {"name": "a", "inner": {"key": [SECRET]}}})
    assert faults == ("room.inner.key: Expected `str`, got `array`",)


def test_the_environment_goes_before_the_file_and_texts_become_what_they_mean():
    file = {"room": {"name": "a", "port": 1, "inner": {"url": "http://file", "key": "k"}}}
    environ = {"ROOM_PORT": "4001", "ROOM_OPEN": "true", "ROOM_URL": "http://environment", "PATH": "/bin"}
    assert decode(overlay(file, environ, VARIABLES), SECTIONS)["room"] == Room(
        name="a", port=4001, is_open=True, inner=Inner(url="http://environment", key="k")
    )


def test_of_two_variables_for_one_setting_the_first_that_is_set_wins():
    both = {"ROOM_URL": "http://first", "OTHER_URL": "http://second"}
    assert overlay({}, both, VARIABLES) == {"room": {"inner": {"url": "http://first"}}}
    assert overlay({}, {**both, "ROOM_URL": ""}, VARIABLES) == {"room": {"inner": {"url": "http://second"}}}


def test_an_empty_variable_is_not_set():
    assert overlay({"room": {"port": 1}}, {"ROOM_PORT": ""}, VARIABLES) == {"room": {"port": 1}}


def test_the_file_is_not_changed_by_what_is_laid_over_it():
    file = {"room": {"inner": {"url": "http://file"}}}
    override(file, {"room.inner.url": "http://option", "other.size": 2})
    assert file == {"room": {"inner": {"url": "http://file"}}}


def test_an_option_that_was_not_given_leaves_the_setting_as_it_is():
    assert override({"room": {"port": 1}}, {"room.port": None, "room.name": "a"}) == {
        "room": {"port": 1, "name": "a"}
    }


@pytest.mark.parametrize("file", [{"room": "x"}, {"room": {"name": "a", "inner": "http://meant"}}])
def test_what_is_laid_over_the_file_does_not_hide_its_faults(file):
    """Someone who wrote `upstream: http://...` must hear of it, whatever the environment holds."""
    (fault,) = faults_of(overlay(file, {"ROOM_URL": "http://environment"}, VARIABLES))
    assert fault.endswith(": must be a mapping")


def test_leaves_have_dotted_paths():
    assert dict(leaves({"room": {"port": 1, "inner": {"key": "k"}}, "other": {}})) == {
        "room.port": 1,
        "room.inner.key": "k",
    }


def test_no_file_and_an_empty_file_are_no_settings(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_file(None) == read_file(tmp_path / "empty.yaml") == {}


def refusal_of(path) -> str:
    with pytest.raises(StartRefused) as refused:
        read_file(path)
    return str(refused.value)


def test_a_file_that_cannot_be_read_is_refused_in_one_sentence(tmp_path):
    missing = tmp_path / "missing.yaml"
    assert [refusal_of(missing), refusal_of(tmp_path)] == [
        f"cannot read the configuration file {missing}: No such file or directory.",
        f"cannot read the configuration file {tmp_path}: Is a directory.",
    ]


@pytest.mark.parametrize("text", ["- room", "room", "3"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "t.yaml"
    path.write_text(text)
    assert refusal_of(path) == f"the configuration file {path} must hold a mapping of sections."


@pytest.mark.parametrize(
    "line",
    [
        f'key: "{SECRET}',
        f"key: *{SECRET}",
        f"key: !{SECRET} x",
        f"key: a: {SECRET}",
        f"key: [{SECRET}",
        "since: 2026-13-45",
        "key: \x00",
    ],
)
def test_a_file_that_is_not_yaml_is_refused_without_quoting_it(tmp_path, line):
    path = tmp_path / "t.yaml"
    path.write_text(f"room:\n  {line}\n")
    refusal = refusal_of(path)
    assert refusal.startswith(f"the configuration file {path} is not YAML")
    assert SECRET not in refusal


def test_a_file_that_is_not_yaml_is_refused_with_the_place(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text("room:\n  key: a: b\n")
    assert refusal_of(path) == f"the configuration file {path} is not YAML in line 2, column 9."


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
NAMES = st.sampled_from(("room", "other", "name", "port", "ratio", "is_open", "inner", "url", "key", "mode"))


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(NAMES, JSON | st.dictionaries(NAMES, JSON | st.dictionaries(NAMES, JSON))))
def test_whatever_a_file_holds_is_decoded_or_refused_with_faults(file):
    merged = overlay(file, {"ROOM_PORT": "1", "ROOM_URL": "http://x"}, VARIABLES)
    try:
        decoded = decode(merged, SECTIONS)
    except ConfigFaults as exc:
        assert exc.faults
    else:
        assert isinstance(decoded["room"], Room)
        assert isinstance(decoded["other"], Other)


@pytest.mark.parametrize("servers", ["a:1", "a", "127.0.0.1:9092", "a:1,b:2", "a:1, b:2", "[::1]:9092"])
def test_a_list_of_brokers_has_no_fault(servers):
    assert list(KafkaConfig(bootstrap_servers=servers).faults()) == []


@pytest.mark.parametrize("servers", ["", "a:1,", "a:port", "a:", ":9092", "a:70000", "http://a:1", "a b"])
def test_what_is_no_list_of_brokers_is_a_fault(servers):
    assert list(KafkaConfig(bootstrap_servers=servers).faults()) == [
        "bootstrap_servers: must name at least one host:port, with commas between them"
    ]


def test_kafka_settings_must_fit_one_another():
    config = KafkaConfig(replication_factor=1, min_insync_replicas=2, request_timeout_ms=0)
    assert list(config.faults()) == [
        "min_insync_replicas: must lie between 1 and replication_factor",
        "request_timeout_ms: must be above 0",
    ]
