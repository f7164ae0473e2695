"""What the edge's README says that it changes, answers and limits, held to the code and to requests."""

import re
from pathlib import Path

import msgspec
import pytest

from services.edge import headers, refusals
from services.edge.config import EdgeConfig, UpstreamConfig
from services.edge.refusals import Refusal
from services.local.anthropic.reply import CannedReply
from services.local.anthropic.server import SimulatedAnthropic
from tests.integration.edge.harness import Edge, exchange, plain_client

README = (Path(__file__).parents[2] / "services" / "edge" / "README.md").read_text()
GATEWAY_KEY = "sk-ant-gateway"
MIB = 1024 * 1024

# What SDKs and Claude Code send, and what nobody sends yet; none of it is in the tables.
PASSING_UP = (
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, br"),
    (b"anthropic-beta", b"a,b"),
    (b"anthropic-dangerous-direct-browser-access", b"true"),
    (b"anthropic-version", b"2023-06-01"),
    (b"content-type", b"application/json"),
    (b"idempotency-key", b"1"),
    (b"origin", b"https://example.com"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    (b"user-agent", b"Anthropic/Python 2.12.0"),
    (b"x-app", b"cli"),
    (b"x-claude-code-session-id", b"s"),
    (b"x-new", b"1"),
    (b"x-real-ip", b"192.0.2.1"),
    (b"x-stainless-retry-count", b"0"),
)
PASSING_DOWN = (
    (b"anthropic-organization-id", b"org"),
    (b"anthropic-ratelimit-requests-limit", b"1"),
    (b"cf-ray", b"1"),
    (b"content-encoding", b"identity"),
    (b"content-type", b"text/plain"),
    (b"date", b"Sun, 22 Nov 2026 12:00:00 GMT"),
    (b"request-id", b"req_1"),
    (b"retry-after", b"1"),
    (b"server", b"cloudflare"),
    (b"vary", b"Accept-Encoding"),
    (b"x-new", b"1"),
    (b"x-should-retry", b"true"),
)


def section(title):
    """The rows of the first table under a heading, each as its cells."""
    text = README.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def named(title):
    """The headers that a table names, a prefix with its star; no paths, members or settings."""
    what = " ".join(row[0] for row in section(title))
    return {token for token in re.findall(r"`([^`]+)`", what) if re.fullmatch(r"[a-z][a-z0-9-]*\*?", token)}


def decoded(names):
    return {name.decode() for name in names}


def test_the_list_of_the_way_up_names_what_the_code_drops_and_nothing_else():
    changed = {"content-length", "content-encoding", "accept-encoding"}
    prefixes = {f"{prefix.decode()}*" for prefix in headers.NOT_UP_PREFIXES}
    # `identity` is no header but the value that accept-encoding gets.
    assert (
        named("What is changed on the way up") - {"identity"} == decoded(headers.NOT_UP) | prefixes | changed
    )


def test_the_list_of_the_way_down_names_what_the_code_drops_and_nothing_else():
    added = {headers.REQUEST_ID, headers.LITELLM_CALL_ID}
    expected = (
        decoded(headers.NOT_DOWN - headers.HOP_BY_HOP) | decoded(added) | {"content-length", "location"}
    )
    assert named("What is changed on the way down") == expected


@pytest.fixture(scope="module")
def upstream():
    with SimulatedAnthropic.in_thread(api_key=GATEWAY_KEY) as simulated:
        yield simulated


@pytest.fixture(scope="module")
def edge(tmp_path_factory, upstream):
    config = EdgeConfig(upstream=UpstreamConfig(base_url=upstream.base_url, api_key=GATEWAY_KEY))
    with Edge(tmp_path_factory.mktemp("spool"), config) as running:
        yield running


def concrete(name):
    return name.replace("*", "anything").encode()


def test_of_a_request_exactly_the_listed_headers_do_not_arrive(edge, upstream):
    # These have a meaning for the connection itself: a request cannot carry them for the sake of it.
    framing = {
        "content-length",
        "transfer-encoding",
        "content-encoding",
        "accept-encoding",
        "expect",
        "identity",
    }
    listed = [concrete(name) for name in named("What is changed on the way up") - framing]
    sent = [*PASSING_UP, *((name, b"upgrade" if name == b"connection" else b"1") for name in listed)]
    upstream.reply_next(CannedReply(headers=((b"content-length", b"0"),)))
    with plain_client() as client:
        exchange(client, "GET", edge.base_url + "/anthropic/v1/models", sent)
    up = upstream.received[-1]
    arrived = [(name.lower(), value) for name, value in up.headers]
    host = (b"host", upstream.base_url.removeprefix("http://").encode())
    assert (up.target, arrived) == (
        b"/v1/models",
        [host, *PASSING_UP, (b"x-api-key", GATEWAY_KEY.encode())],
    )


def test_of_an_answer_exactly_the_listed_headers_do_not_arrive(edge, upstream):
    dropped = decoded(headers.NOT_DOWN) - {"transfer-encoding", "connection", "upgrade"}
    came = (*PASSING_DOWN, *((name.encode(), b"1") for name in sorted(dropped)), (b"content-length", b"2"))
    upstream.reply_next(CannedReply(headers=came, chunks=(b"ok",)))
    with plain_client() as client:
        answer, body = exchange(client, "GET", edge.base_url + "/v1/models", {"x-api-key": "k"})
    added = [
        (name, answer.headers["x-tollhouse-request-id"].encode())
        for name in (b"x-tollhouse-request-id", b"x-litellm-call-id")
    ]
    assert (answer.headers.raw, body) == ([*PASSING_DOWN, (b"content-length", b"2"), *added], b"ok")


def test_of_a_body_exactly_the_listed_member_does_not_arrive(edge, upstream):
    body = (
        b'{ "a":{"litellm_metadata":1},"litellm_metadata" : {}, "b" : [ 1.0 ],"litellm\\u005fmetadata":2}\n'
    )
    upstream.reply_next(CannedReply(headers=((b"content-length", b"0"),)))
    with plain_client() as client:
        exchange(client, "POST", edge.base_url + "/v1/messages", {"x-api-key": "k"}, body)
    up = upstream.received[-1]
    assert up.body == b'{ "a":{"litellm_metadata":1},"b" : [ 1.0 ]}\n'
    assert dict(up.headers)[b"content-length"] == b"%d" % len(up.body)


def test_the_list_of_own_answers_is_what_the_code_answers():
    told = {tuple(cell.strip("`") for cell in row[:4]) for row in section("What the gateway answers itself")}
    written = [each for each in vars(refusals).values() if isinstance(each, Refusal)]
    written += [refusals.model_denied("This API key", "m", ("n",)), refusals.route_denied(())]
    assert told == {
        (each.reason, str(each.status), each.error_type, "true" if each.should_retry else "false")
        for each in written
    }


def test_the_settings_in_the_list_of_limits_have_the_values_that_it_says():
    config = msgspec.to_builtins(EdgeConfig())
    units = {"MiB": MIB, "GiB": 1024 * MIB, "s": 1, "": 1}
    read = {}
    for row in section("Limits"):
        found = re.fullmatch(r"`edge\.([a-z_.]+)`, ([0-9,]+) ?(\w*)", row[0])
        if found:
            value = config
            for name in found[1].split("."):
                value = value[name]
            read[found[1]] = (value, int(found[2].replace(",", "")) * units[found[3]])
    assert len(read) >= 6
    assert [name for name, (actual, said) in read.items() if actual != said] == []
