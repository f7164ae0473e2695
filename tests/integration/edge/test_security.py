"""What an attacker may send to the edge: it is refused, or goes up as what it is and to where it should."""

import re

import pytest

from services.edge.config import EdgeConfig, UpstreamConfig
from services.local.anthropic.reply import CannedReply
from services.local.anthropic.server import SimulatedAnthropic
from tests.integration.edge.harness import Edge, RawClient

MASTER = b"sk-master-0123456789"
UP = b"sk-ant-upstream-0123456789"
KEYED = b"x-api-key: " + MASTER
SMUGGLED = b"GET /v1/organizations/me HTTP/1.1\r\nhost: e\r\n" + KEYED + b"\r\n\r\n"
STATUS = re.compile(rb"HTTP/1\.1 (\d+) ")


@pytest.fixture(scope="module")
def upstream():
    """Takes any credential: what matters is which one comes."""
    with SimulatedAnthropic.in_thread() as simulated:
        yield simulated


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, upstream):
    """An edge behind a master key, straight before Anthropic: no base path protects it."""
    config = EdgeConfig(
        master_key=MASTER.decode(),
        body_bytes_max=4096,
        upstream=UpstreamConfig(base_url=upstream.base_url, api_key=UP.decode()),
    )
    with Edge(tmp_path_factory.mktemp("guarded"), config) as running:
        yield running


@pytest.fixture
def ask(guarded, upstream):
    """Send bytes on a connection of their own; give what came back, and what went up meanwhile."""

    def asked(data):
        upstream.received.clear()
        client = RawClient(guarded)
        client.send(data)
        received = client.read_to_end()
        client.leave()
        return received, list(upstream.received)

    return asked


def request(*lines, method=b"POST", target=b"/v1/messages", body=b"", keyed=KEYED):
    """A request that asks for its connection to be closed behind its answer."""
    first = (method + b" " + target + b" HTTP/1.1", b"host: e", *([keyed] if keyed else []))
    return b"\r\n".join((*first, *lines, b"connection: close", b"", body))


CHUNKED = b"transfer-encoding: chunked"
TWO_WAYS = {
    "length and chunks": request(b"content-length: 5", CHUNKED, body=b"0\r\n\r\n" + SMUGGLED),
    "chunks and length": request(CHUNKED, b"content-length: 5", body=b"0\r\n\r\n" + SMUGGLED),
    "two lengths": request(b"content-length: 0", b"content-length: 2", body=SMUGGLED),
    "a list of lengths": request(b"content-length: 0, 2", body=SMUGGLED),
    "a signed length": request(b"content-length: +2", body=SMUGGLED),
    "a hexadecimal length": request(b"content-length: 0x2", body=SMUGGLED),
    "a length beyond 64 bits": request(b"content-length: 18446744073709551617", body=SMUGGLED),
    "a space before the colon": request(b"content-length : 5", body=SMUGGLED),
    "another before chunks": request(b"transfer-encoding : chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "chunks that are not last": request(b"transfer-encoding: chunked, identity", body=b"0\r\n\r\n"),
    "almost chunks": request(b"transfer-encoding: xchunked", body=b"0\r\n\r\n" + SMUGGLED),
    "chunks behind a vertical tab": request(b"transfer-encoding: \x0bchunked", body=b"0\r\n\r\n" + SMUGGLED),
    "a folded line": request(b"x-a: b", b" content-length: 5", body=SMUGGLED),
    "a folded coding": request(b"transfer-encoding:", b" chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "a bare line feed": request(b"x-a: b\nx-b: c", body=SMUGGLED),
    "a bare carriage return": request(b"x-a: b\rx-b: c", body=SMUGGLED),
    "a chunk of signed size": request(CHUNKED, body=b"-1\r\n" + SMUGGLED),
    "a chunk beyond 64 bits": request(CHUNKED, body=b"fffffffffffffffff\r\n" + SMUGGLED),
    "a chunk that is longer than it says": request(CHUNKED, body=b"1\r\n{}\r\n0\r\n\r\n" + SMUGGLED),
}


@pytest.mark.parametrize("framed", TWO_WAYS)
def test_a_request_that_can_be_read_in_two_ways_is_answered_400_and_smuggles_nothing(framed, ask):
    received, went_up = ask(TWO_WAYS[framed])
    assert (STATUS.findall(received), went_up) == ([b"400"], [])


@pytest.mark.parametrize(
    "lines",
    [
        (b"x_api_key: " + MASTER,),
        (b"X_LITELLM_API_KEY: " + MASTER,),
        (b"x-api-key-: " + MASTER,),
        (b"x-api-key: sk-ant-wrong-0123456789", KEYED),
        (b"x-litellm-api-key: sk-ant-wrong-0123456789", KEYED),
        (b"x-api-key: " + MASTER[:-1],),
        (b"x-api-key: " + MASTER + b"0",),
        (b"x-api-key: " + MASTER.upper(),),
        (b"x-api-key: " + MASTER + b", " + MASTER,),
        (b"x-api-key: \xff\xfe",),
        (b"cookie: x-api-key=" + MASTER,),
    ],
)
def test_what_only_looks_like_the_key_is_a_401_that_quotes_nothing(lines, ask):
    received, went_up = ask(request(*lines, b"content-length: 2", body=b"{}", keyed=None))
    assert (STATUS.findall(received), went_up) == ([b"401"], [])
    assert not [value for line in lines if (value := line.split(b": ")[1]) in received]


def test_a_key_in_the_address_is_no_key(ask):
    received, went_up = ask(request(method=b"GET", target=b"/v1/models?key=" + MASTER, keyed=None))
    assert (STATUS.findall(received), went_up) == ([b"401"], [])


def test_a_connection_header_can_take_away_neither_the_gateways_key_nor_the_bodys_length(ask):
    named = b"connection: x-api-key, content-length, host, authorization"
    _, (up,) = ask(request(named, b"content-length: 2", body=b"{}"))
    credentials = [each for each in up.headers if each[0].lower() in (b"x-api-key", b"authorization")]
    assert (up.body, credentials) == (b"{}", [(b"x-api-key", UP)])


def test_the_names_that_the_gateway_gives_are_taken_from_nobody(ask):
    claimed = (b"x-tollhouse-request-id: claimed", b"x-litellm-call-id: claimed")
    received, (up,) = ask(request(*claimed, method=b"GET", target=b"/v1/models"))
    assert b"claimed" not in received + repr(up.headers).encode()
    assert re.search(rb"x-tollhouse-request-id: [0-9a-f-]{36}\r\n", received)


ELSEWHERE = [
    b"http://evil.example/v1/models",
    b"https://user@evil.example:1/v1/models",
    b"/v1/../../evil",
    b"/v1/%2e%2e/%2E%2E/evil",
    b"/v1/..%2f..%5cevil",
    b"/v1/\\\\evil.example\\x",
    b"/v1//evil.example/x",
    b"/v1/@evil.example",
    b"/v1/:80@evil.example/",
    b"/anthropic//evil.example/v1/models",
    b"/anthropic/@evil.example/",
    b"/anthropic/http://evil.example/",
    b"/anthropic/../anthropic/v1/models",
    b"/v1/models%0d%0ahost:%20evil.example",
    b"/v1/models?%0d%0ahost:%20evil.example",
    b"/v1/%00",
]


@pytest.mark.parametrize("target", ELSEWHERE)
def test_no_spelling_of_a_path_leads_anywhere_but_to_the_upstream(target, ask, upstream):
    """It may go up, for Anthropic to say what it thinks of it; but there alone, and as one request."""
    _, (up,) = ask(request(method=b"GET", target=target))
    hosts = [value for name, value in up.headers if name.lower() == b"host"]
    assert hosts == [upstream.base_url.removeprefix("http://").encode()]
    assert up.target.startswith(b"/")
    assert up.target == re.sub(rb"^(https?://[^/]+|/anthropic(?=/))", b"", target)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"//evil.example/v1/models", b"404"),
        (b"/\\evil.example/v1/models", b"404"),
        (b"/v1", b"404"),
        (b"/../v1/models", b"404"),
        (b"/%76%31/models", b"404"),
        (b"/metrics/../v1/models", b"404"),
        (b"*", b"404"),
        (b"v1/models", b"400"),
        (b"/v1/mod\x01els", b"400"),
        (b"/v1/\xc3\xa9", b"400"),
    ],
)
def test_what_is_no_path_of_ours_goes_nowhere(target, status, ask):
    received, went_up = ask(request(method=b"GET", target=target))
    assert (STATUS.findall(received), went_up) == ([status], [])


def test_two_hosts_lead_no_client_anywhere(ask):
    """A `results_url` is written with the Host that came."""
    received, went_up = ask(request(b"host: evil.example", method=b"GET", target=b"/v1/messages/batches/b"))
    assert (STATUS.findall(received), went_up) == ([b"400"], [])
    assert b"evil" not in received


@pytest.mark.parametrize(
    "link",
    [
        b"http://169.254.169.254/latest/meta-data",
        b"https://evil.example/v1/messages/batches/b/results",
        b"https://api.anthropic.com@evil.example/v1/x",
        b"https://api.anthropic.com.evil.example/v1/x",
        b"//evil.example/x",
        b"file:///etc/passwd",
        b"\\u0068ttps://evil.example/",
    ],
)
def test_a_link_of_an_answer_sends_no_client_to_another_host(link, ask, upstream):
    body = b'{"id":"b","type":"message_batch","results_url":"%s"}' % link
    upstream.reply_next(CannedReply(headers=((b"content-type", b"application/json"),), chunks=(body,)))
    received, went_up = ask(request(method=b"GET", target=b"/v1/messages/batches/b"))
    assert (STATUS.findall(received), len(went_up)) == ([b"502"], 1)
    assert b"evil" not in received and b"169.254" not in received


@pytest.mark.parametrize("line", [b"content-length: 4097", CHUNKED], ids=["length", "chunks"])
def test_a_body_beyond_the_limit_stays_here(line, ask):
    body = b"x" * 4097 if line != CHUNKED else b"1001\r\n" + b"x" * 4097 + b"\r\n0\r\n\r\n"
    received, went_up = ask(request(line, body=body))
    assert (STATUS.findall(received), went_up) == ([b"413"], [])


def test_what_the_edge_writes_down_holds_no_key(guarded, ask):
    """Every header that can carry a key, and a body that repeats them, on one request."""
    planted = [b"sk-ant-planted-%d-0123456789" % number for number in range(4)]
    lines = (
        b"authorization: Bearer " + planted[0],
        b"x-litellm-api-key: " + MASTER,
        b"cookie: session=" + planted[1],
        b"x-goog-api-key: " + planted[2],
    )
    body = b'{"model":"m","messages":[{"role":"user","content":"%s"}]}' % planted[3]
    ask(request(*lines, b"content-length: %d" % len(body), body=body))
    guarded.take()
    written = b"".join(path.read_bytes() for path in guarded.directory.iterdir() if path.is_file())
    assert not [secret for secret in (*planted, MASTER, UP) if secret in written]
