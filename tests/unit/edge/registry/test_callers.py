"""Who calls with a virtual key: whom it is booked to, and that the key itself goes nowhere."""

from datetime import UTC, datetime

import pytest

from schemas.keys import VirtualKey
from services.edge.client import Drains
from services.edge.config import DrainConfig
from services.edge.headers import headers_up, own_credential
from services.edge.identity import Caller, identify, read_credentials, secrets_of
from services.edge.registry.rights import Grant

MASTER = "sk-master-0123456789"
SECRET = "sk-virtual-0123456789"
OWN = b"sk-ant-own-0123456789"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GRANT = Grant(VirtualKey(virtual_key_id="vk_1", revision=1, created_at=NOW, updated_at=NOW))


def lookup(secret):
    return GRANT if secret == SECRET else "unknown_credential"


def caller_of(headers, gateway_has_credential, master_key=MASTER):
    return identify(
        read_credentials(headers),
        master_key=master_key,
        hash_secret="",
        gateway_has_credential=gateway_has_credential,
        lookup=lookup,
    )


def test_a_virtual_key_is_booked_under_its_id():
    assert caller_of([(b"x-api-key", SECRET.encode())], True) == Caller("vk_1", False, GRANT)
    assert caller_of([(b"x-api-key", b"sk-other")], True) == "unknown_credential"
    assert caller_of([(b"x-api-key", MASTER.encode())], True) == Caller("master", False)


def test_without_a_master_key_nobody_looks_for_virtual_keys():
    assert caller_of([(b"x-api-key", SECRET.encode())], True, master_key="") == Caller("anonymous", False)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-litellm-api-key", SECRET.encode()), (b"x-api-key", OWN)],
        [(b"authorization", b"Bearer " + SECRET.encode()), (b"x-api-key", OWN)],
        [(b"x-litellm-api-key", SECRET.encode()), (b"authorization", MASTER.encode()), (b"x-api-key", OWN)],
        [(b"x-litellm-api-key", SECRET.encode()), (b"x-copy", SECRET.encode()), (b"x-api-key", OWN)],
        [(b"x-litellm-api-key", SECRET.encode()), (b"x-copy", MASTER.encode()), (b"x-api-key", OWN)],
    ],
)
def test_where_callers_bring_their_own_anthropic_key_the_virtual_key_is_what_is_booked_and_stays_here(
    headers,
):
    caller = caller_of(headers, False)
    assert caller == Caller("vk_1", True, GRANT)
    secrets = secrets_of(read_credentials(headers), caller, MASTER)
    assert headers_up(headers, own_credential(headers, MASTER, SECRET), None, secrets) == [
        (b"x-api-key", OWN)
    ]


def test_a_virtual_key_alone_is_none_for_anthropic():
    assert caller_of([(b"x-api-key", SECRET.encode())], False) == "no_upstream_credential"


@pytest.mark.parametrize(
    ("configured", "of_the_key", "seconds"),
    [("drain", "", 300.0), ("cancel", "", 0.0), ("drain", "cancel", 0.0), ("cancel", "drain", 300.0)],
)
def test_the_word_of_a_key_goes_before_the_edges_when_a_client_hangs_up(configured, of_the_key, seconds):
    assert Drains(DrainConfig(on_disconnect=configured)).seconds_for_one_more(of_the_key) == seconds


def test_a_drain_that_a_key_asks_for_is_bounded_like_any_other():
    assert Drains(DrainConfig(on_disconnect="cancel", exchanges_max=0)).seconds_for_one_more("drain") == 0.0
