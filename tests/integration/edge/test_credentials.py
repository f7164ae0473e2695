"""What a caller shows, and what of it Anthropic ever sees: every header, as it went up."""

import pytest

from schemas.attribution import Attribution
from services.edge.config import EdgeConfig, UpstreamConfig
from services.edge.identity import own_key_id
from services.local.anthropic.reply import CannedReply
from tests.integration.edge.harness import Edge, exchange

MASTER = "sk-master-0123456789"
OWN = "sk-ant-own-0123456789"
SUBSCRIPTION = "sk-ant-oat01-0123456789"
GATEWAY_KEY = "sk-ant-gateway"
PLAIN = {"accept": "*/*", "anthropic-beta": "oauth-2025-04-20"}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory, upstream):
    """A gateway with a credential of its own, behind a master key."""
    config = EdgeConfig(
        master_key=MASTER, upstream=UpstreamConfig(base_url=upstream.base_url, api_key=GATEWAY_KEY)
    )
    with Edge(tmp_path_factory.mktemp("keyed"), config) as running:
        yield running


@pytest.fixture(scope="module", params=["", MASTER], ids=["open", "behind a master key"])
def own(request, tmp_path_factory, upstream):
    """A gateway without a credential of its own."""
    config = EdgeConfig(master_key=request.param, upstream=UpstreamConfig(base_url=upstream.base_url))
    with Edge(tmp_path_factory.mktemp("own"), config) as running:
        yield running


def asked(edge, upstream, client, shown):
    """Ask with what is shown; give what went up of it, and to whom it is booked."""
    upstream.reply_next(CannedReply(headers=((b"content-length", b"0"),)))
    answer, _ = exchange(client, "GET", edge.base_url + "/v1/models", {**PLAIN, **shown})
    assert answer.status_code == 200
    up = {name.decode().lower(): value.decode() for name, value in upstream.received[-1].headers}
    assert {name: up.pop(name) for name in PLAIN} == PLAIN
    del up["host"]
    return up, edge.take_one().used.attribution


@pytest.mark.parametrize(
    "shown",
    [
        {"x-api-key": MASTER},
        {"authorization": f"Bearer {MASTER}"},
        {"authorization": f"bEARER {MASTER}"},
        {"x-litellm-api-key": MASTER},
        {"x-litellm-api-key": f"Bearer {MASTER}"},
        {"authorization": f"Bearer {MASTER}", "x-api-key": MASTER},
        {"authorization": f"Bearer {MASTER}", "x-api-key": OWN},
        {"x-litellm-api-key": MASTER, "authorization": f"Bearer {SUBSCRIPTION}"},
        {"x-api-key": MASTER, "api-key": MASTER, "x-goog-api-key": f"Bearer {MASTER}"},
        {"x-api-key": MASTER, "cookie": f"key={MASTER}", "proxy-authorization": f"Basic {MASTER}"},
        {"x-litellm-api-key": MASTER, "x-api-key": OWN, "x-copy": OWN},
    ],
)
def test_a_gateway_with_a_credential_sends_that_one_alone(shown, keyed, upstream, client):
    up, attribution = asked(keyed, upstream, client, shown)
    assert (up, attribution) == ({"x-api-key": GATEWAY_KEY}, Attribution(virtual_key_id="master"))


@pytest.mark.parametrize(
    ("shown", "booked"),
    [
        ({"x-api-key": OWN}, OWN),
        ({"authorization": f"Bearer {SUBSCRIPTION}"}, SUBSCRIPTION),
        ({"authorization": f"bearer {SUBSCRIPTION}"}, SUBSCRIPTION),
        ({"authorization": f"Bearer {OWN}", "x-api-key": OWN}, OWN),
    ],
)
def test_a_gateway_without_one_sends_the_callers_own_as_it_came(shown, booked, own, upstream, client):
    gateway_key = {"x-litellm-api-key": own.config.master_key} if own.config.master_key else {}
    up, attribution = asked(own, upstream, client, {**shown, **gateway_key})
    assert (up, attribution) == (shown, Attribution(virtual_key_id=own_key_id(booked, "")))
