"""The settings of an edge fit one another, or each misfit is named."""

import pytest

from services.edge.config import MIB, BatchesConfig, EdgeConfig, SpoolConfig, UpstreamConfig


def faults(**given):
    return list(EdgeConfig(**given).faults())


def test_the_defaults_fit():
    assert faults() == []


@pytest.mark.parametrize(
    "name",
    [
        "body_bytes_max",
        "decoded_body_bytes_max",
        "batch_body_bytes_max",
        "client_read_s_max",
        "client_write_s_max",
    ],
)
@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_of_nothing_is_a_fault(name, value):
    assert faults(**{name: value}) == [f"{name}: must be above 0"]


def test_one_body_must_have_room_in_memory():
    names = ("body_bytes_max", "decoded_body_bytes_max")
    limits = dict.fromkeys(names, 100)
    assert faults(**limits, bodies_in_memory_bytes_max=99) == [
        f"bodies_in_memory_bytes_max: must not be below {name}, or no long body could pass" for name in names
    ]
    assert faults(**limits, bodies_in_memory_bytes_max=100) == []


def test_one_batch_must_have_room_on_disk():
    told = "batches.bytes_max: must not be below batch_body_bytes_max, or no long batch could pass"
    assert faults(batch_body_bytes_max=100, batches=BatchesConfig(bytes_max=99)) == [told]
    assert faults(batch_body_bytes_max=100, batches=BatchesConfig(bytes_max=100)) == []


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "team/1"])
def test_the_name_of_a_credential_is_a_word(name):
    assert list(UpstreamConfig(name=name).faults()) == [
        "name: must be 1 to 64 letters, digits, dots, dashes or underscores"
    ]


def test_every_misfit_is_named_at_once():
    told = faults(host="0.0.0.0", port=70000, body_bytes_max=0, client_write_s_max=float("nan"))
    assert [fault.partition(":")[0] for fault in told] == [
        "port",
        "body_bytes_max",
        "client_write_s_max",
        "host",
    ]


def test_a_gateway_that_is_its_own_upstream_is_a_fault():
    own = UpstreamConfig(base_url="http://127.0.0.1:4000")
    (fault,) = faults(upstream=own)
    assert fault.startswith("upstream.base_url: is this gateway's own address")


def test_a_spool_without_room_for_a_few_exchanges_is_refused():
    told = "bytes_max: must be at least 1048576, or two large events would fill it"
    assert list(SpoolConfig(bytes_max=MIB - 1).faults()) == [told]
    assert list(SpoolConfig(bytes_max=MIB, when_full="shed").faults()) == []


@pytest.mark.parametrize("key", ["sk-1\n", "sk 1", "sk-1\r\nx-injected: 1", "sk-\u00fc", "\x00"])
def test_a_key_that_would_write_another_header_is_a_fault_and_is_not_quoted(key):
    told = "holds a character that no key has (a space or a line end?)"
    assert faults(master_key=key) == [f"master_key: {told}"]
    upstream = UpstreamConfig(api_key=key, auth_token=key)
    assert list(upstream.faults()) == [f"api_key: {told}", f"auth_token: {told}"]
