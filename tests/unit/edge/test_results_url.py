"""`results_url` points to this gateway or the answer does not pass; every other byte stays as it was."""

import json

import pytest

from services.edge.config import EdgeConfig
from services.edge.results_url import (
    CannotRewrite,
    Links,
    asking_for_identity,
    carries_results_url,
    gateway_address,
    rewritten,
    with_length,
)

PATH = "/v1/messages/batches/msgbatch_1/results"
HERE = "http://gateway:4000/anthropic"
LINKS = Links("https://api.anthropic.com", HERE)
THERE = b"https://api.anthropic.com" + PATH.encode()


def batch(results_url):
    return {"id": "msgbatch_1", "type": "message_batch", "results_url": results_url, "ended_at": None}


def test_the_value_is_replaced_and_every_byte_around_it_stays():
    body = b'{ "id":"msgbatch_1",\n\t"results_url"  : "%s" ,"x":"results_url", "n":1.50 }\n'
    assert rewritten(body % THERE, LINKS) == body % (HERE + PATH).encode()


def test_every_batch_of_a_page_is_pointed_here():
    page = {
        "data": [batch(THERE.decode()), batch(None), batch(THERE.decode() + "?page=2")],
        "has_more": False,
    }
    here = {"data": [batch(HERE + PATH), batch(None), batch(HERE + PATH + "?page=2")], "has_more": False}
    assert json.loads(rewritten(json.dumps(page).encode(), LINKS)) == here


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"results_url":null}',
        b'{"results_url":7,"type":"results_url"}',
        b'{"note":"\\"results_url\\": \\"https://api.anthropic.com/x\\""}',
        b'["results_url", "https://api.anthropic.com/x"]',
        b'{"results_urls":"https://api.anthropic.com/x"}',
        b'{"results_url":"/v1/messages/batches/msgbatch_1/results"}',
        b'{"results_url":"http://gateway:4000"}'.replace(b"results_url", b"other_url"),
    ],
)
def test_a_body_without_such_an_address_passes_as_it_is(body):
    assert rewritten(body, LINKS) == body


@pytest.mark.parametrize(
    "written",
    [
        rb'{"results_url":"https:\/\/api.anthropic.com\/v1\/messages\/batches\/msgbatch_1\/results"}',
        rb'{"results\u005furl":"https://api.anthropic.com/v1/messages/batches/msgbatch_1/results"}',
        rb'{"\u0072esults_url":"\u0068ttps://api.anthropic.com/v1/messages/batches/msgbatch_1/results"}',
        b'{"results_url":"HTTPS://API.Anthropic.com:443/v1/messages/batches/msgbatch_1/results"}',
    ],
)
def test_no_way_of_writing_it_gets_past(written):
    assert json.loads(rewritten(written, LINKS)) == {"results_url": HERE + PATH}


def test_of_two_members_of_that_name_both_are_pointed_here():
    body = b'{"results_url":"%s","results_url":"%s"}' % (THERE, THERE)
    assert rewritten(body, LINKS).count(HERE.encode()) == 2


@pytest.mark.parametrize(
    ("upstream", "value"),
    [
        ("https://api.anthropic.com/", "https://api.anthropic.com" + PATH),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000" + PATH),
        ("http://proxy/claude", "http://proxy/claude" + PATH),
        ("http://proxy:80/claude/", "http://PROXY/claude" + PATH),
        ("http://proxy/claude", "https://api.anthropic.com" + PATH),  # the proxy passed it on as it came
    ],
)
def test_upstreams_own_address_and_anthropics_are_cut_off(upstream, value):
    body = json.dumps(batch(value)).encode()
    assert json.loads(rewritten(body, Links(upstream, HERE))) == batch(HERE + PATH)


@pytest.mark.parametrize(
    "value",
    [
        "https://evil.example" + PATH,
        "//evil.example" + PATH,
        "http://api.anthropic.com" + PATH,
        "https://api.anthropic.com:8443" + PATH,
        "https://api.anthropic.com.evil.example" + PATH,
        "https://api.anthropic.com@evil.example" + PATH,
        "https://evil.example\\@api.anthropic.com" + PATH,
        "https://user:pw@api.anthropic.com" + PATH,
        "https://api.anthropic.com",
        "https://api.anthropic.com?x=" + PATH,
        "https://api.anthropic.com\\evil" + PATH,
        "https://api.anthropic.com:port" + PATH,
        "https://api.anthropic.com/v1/ spaced",
        'https://api.anthropic.com/v1/"quoted',
        "https://api.anthropic.com/é",
        "https://[::1" + PATH,
        "ftp://api.anthropic.com" + PATH,
        "javascript:alert(1)",
        "evil.example" + PATH,
        "/\\evil.example",
        "",
    ],
)
def test_an_address_that_cannot_be_pointed_here_does_not_pass(value):
    with pytest.raises(CannotRewrite):
        rewritten(json.dumps(batch(value)).encode(), LINKS)


def test_below_a_base_path_only_what_lies_there_is_the_upstreams():
    with pytest.raises(CannotRewrite):
        rewritten(json.dumps(batch("http://proxy/other" + PATH)).encode(), Links("http://proxy/claude", HERE))


@pytest.mark.parametrize(
    "body", [b"<html>", b'{"results_url":', b'{"a":1} x', b"\xef\xbb\xbf{}", b'{"a":NaN}']
)
def test_what_is_no_json_does_not_pass(body):
    with pytest.raises(CannotRewrite):
        rewritten(body, LINKS)


def test_a_fault_names_the_host_and_not_the_address():
    with pytest.raises(CannotRewrite, match=r"^storage\.example$"):
        rewritten(b'{"results_url":"https://storage.example/x?signature=secret"}', LINKS)


@pytest.mark.parametrize(
    ("operation", "endpoint", "expected"),
    [
        ("batches", "/v1/messages/batches", True),
        ("batches", "/v1/messages/batches/{id}", True),
        ("batches", "/v1/messages/batches/{id}/cancel", True),
        ("batches", "/v1/messages/batches/{id}/results", False),
        ("messages", "/v1/messages", False),
        ("files", "/v1/files/{id}/content", False),
    ],
)
def test_batch_objects_are_rewritten_and_results_pass(operation, endpoint, expected):
    assert carries_results_url(operation, endpoint) is expected


def scope(*hosts, path=b"/v1/messages/batches", scheme="http", server=("127.0.0.1", 4000)):
    headers = [(b"host", host) for host in hosts]
    forged = [(b"x-forwarded-host", b"evil.example"), (b"x-forwarded-proto", b"https")]
    return {"headers": [*headers, *forged], "raw_path": path, "scheme": scheme, "server": server}


@pytest.mark.parametrize(
    ("request_scope", "expected"),
    [
        (scope(b"gateway:4000"), "http://gateway:4000"),
        (scope(b"gateway", path=b"/anthropic/v1/messages/batches"), "http://gateway/anthropic"),
        (scope(b"gateway", path=b"/anthropicx/v1"), "http://gateway"),
        (scope(b"[::1]:4000", scheme="https"), "https://[::1]:4000"),
        (scope(), "http://127.0.0.1:4000"),
        (scope(server=("::1", 4000)), "http://[::1]:4000"),
        (scope(server=None), None),
        (scope(b""), None),
        (scope(b"one", b"two"), None),
        (scope(b"user@evil"), None),
        (scope(b"evil/path"), None),
        (scope(b"evil?x"), None),
        (scope(b"evil#x"), None),
        (scope(b'evil"'), None),
        (scope(b"evil\\x"), None),
        (scope(b"a b"), None),
        (scope(b"gateway:port"), None),
        (scope(b"gateway:123456"), None),
        (scope(b"x" * 300), None),
        (scope("gåteway".encode()), None),
    ],
)
def test_the_gateway_is_where_the_client_has_reached_it(request_scope, expected):
    assert gateway_address(request_scope) == expected


def test_upstream_is_asked_for_an_answer_without_a_coding():
    headers = [(b"accept", b"*/*"), (b"Accept-Encoding", b"gzip, br"), (b"x-api-key", b"k")]
    assert asking_for_identity(headers) == [
        (b"accept", b"*/*"),
        (b"x-api-key", b"k"),
        (b"accept-encoding", b"identity"),
    ]


def test_the_length_follows_the_body_where_there_is_one():
    headers = [(b"Content-Length", b"10"), (b"x", b"10")]
    assert with_length(headers, 25) == [(b"Content-Length", b"25"), (b"x", b"10")]
    assert with_length(headers[1:], 25) == [(b"x", b"10")]


@pytest.mark.parametrize(
    ("public_url", "faults"),
    [
        ("", []),
        ("https://llm.example.com", []),
        ("http://10.0.0.1:4000/anthropic/", []),
        ("http://[::1]:4000", []),
        ("llm.example.com", ["must be an http or https address"]),
        ("ftp://llm.example.com", ["must be an http or https address"]),
        ("https://", ["must be an http or https address"]),
        ("https://x?y", ["must not carry a query, a fragment, credentials or spaces"]),
        ("https://x#y", ["must not carry a query, a fragment, credentials or spaces"]),
        ("https://u:p@x", ["must not carry a query, a fragment, credentials or spaces"]),
        ("https://x y", ["must not carry a query, a fragment, credentials or spaces"]),
        ('https://x"', ["must not carry a query, a fragment, credentials or spaces"]),
        ("https://x:y", ["is not an address"]),
    ],
)
def test_a_public_url_that_cannot_work_is_a_fault_of_the_settings(public_url, faults):
    assert list(EdgeConfig(public_url=public_url).faults()) == [f"public_url: {fault}" for fault in faults]
