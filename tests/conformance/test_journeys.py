"""Calls that build on one another, made on both sides: a batch until its deletion, a file up and down."""

import json
import random

import pytest

from tests.conformance.sides import CALLER_KEY, Sent

USUAL = ((b"X-Api-Key", CALLER_KEY), (b"Anthropic-Version", b"2023-06-01"))
BATCHES = b"/v1/messages/batches"
PARAMS = {"model": "claude-haiku-5-5", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi."}]}
FILE_SEED = 20261122


@pytest.fixture
def both(sides):
    def both(method, target, body=None, *headers):
        framing = "none" if body is None else "content-length"
        straight, through = sides.ask(Sent(method, target, (*USUAL, *headers), body or b"", framing))
        assert (straight.is_whole, through.is_whole) == (True, True)
        return straight, through

    return both


@pytest.fixture
def both_batch(both, sides):
    """Both answers, which are the same but for whose results_url it is, and the length of that."""

    def both_batch(method, target, body=None):
        straight, through = both(method, target, body)
        ours, theirs = sides.base_urls()
        assert through.body.replace(theirs, ours) == straight.body
        assert through._replace(body=b"").without({b"content-length"}) == straight._replace(body=b"").without(
            {b"content-length"}
        )
        assert dict(through.headers)[b"content-length"] == b"%d" % len(through.body)
        return json.loads(through.body)

    return both_batch


def test_a_batch_from_its_creation_to_its_deletion(both, both_batch, sides):
    requests = [
        {"custom_id": name, "params": PARAMS} for name in ("a", "b", "errored-c", "expired-d", "canceled-e")
    ]
    batch = both_batch(b"POST", BATCHES, json.dumps({"requests": requests}).encode())
    place = BATCHES + b"/" + batch["id"].encode()
    straight, through = both(b"GET", place + b"/results")
    assert (straight.status, through) == (400, straight)
    sides.advance(1)
    ended = both_batch(b"GET", place)
    assert ended["results_url"] == f"{sides.edge.base_url}/v1/messages/batches/{batch['id']}/results"
    assert both_batch(b"GET", BATCHES + b"?limit=1")["data"] == [ended]
    straight, through = both(b"GET", ended["results_url"].removeprefix(sides.edge.base_url).encode())
    assert through == straight
    assert len(through.body.splitlines()) == len(requests)
    straight, through = both(b"DELETE", place)
    assert (through, straight.status) == (straight, 200)


def test_a_batch_that_is_canceled(both_batch, sides):
    items = {"requests": [{"custom_id": "a", "params": PARAMS}]}
    batch = both_batch(b"POST", BATCHES, json.dumps(items).encode())
    place = BATCHES + b"/" + batch["id"].encode()
    assert both_batch(b"POST", place + b"/cancel", b"")["processing_status"] == "canceling"
    sides.advance(1)
    assert both_batch(b"GET", place)["processing_status"] == "ended"


def test_a_file_up_and_down(both):
    print(f"seed {FILE_SEED}")
    content = random.Random(FILE_SEED).randbytes(300_000)
    form = (
        b'--q\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%s\r\n--q--\r\n' % content
    )
    up, up_through = both(b"POST", b"/v1/files", form, (b"Content-Type", b"multipart/form-data; boundary=q"))
    assert up_through == up
    place = b"/v1/files/" + json.loads(up.body)["id"].encode()
    for method, target in (
        (b"GET", place),
        (b"GET", place + b"/content"),
        (b"GET", b"/v1/files?limit=1"),
        (b"DELETE", place),
        (b"GET", place + b"/content"),
    ):
        straight, through = both(method, target)
        assert through == straight
        if target.endswith(b"/content") and straight.status == 200:
            assert through.body == content
