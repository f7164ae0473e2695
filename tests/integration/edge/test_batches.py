"""Batches through the gateway: what is cut, what facts it leaves, and what own-key downloads come to."""

import gzip
import json
import time
from datetime import datetime

import anthropic
import httpx2
import pytest
from prometheus_client import REGISTRY

from schemas.batches import BatchCounts, BatchCreated, BatchDeleted, BatchItem, BatchSeen
from schemas.ids import batch_item_id
from services.edge.config import BatchesConfig, EdgeConfig, UpstreamConfig
from services.local.anthropic.reply import CannedReply
from tests.integration.edge.harness import Edge, RawClient

KEY = "sk-ant-gateway"
MODEL = "claude-haiku-4-5"
BATCHES = "/v1/messages/batches"


@pytest.fixture(scope="module")
def own_key_edge(tmp_path_factory, upstream):
    """An edge without a credential: callers go up under their own."""
    config = EdgeConfig(upstream=UpstreamConfig(base_url=upstream.base_url))
    with Edge(tmp_path_factory.mktemp("own-key"), config) as running:
        yield running


def sdk(edge, key=KEY):
    return anthropic.Anthropic(
        base_url=edge.base_url, api_key=key, max_retries=0, http_client=httpx2.Client(trust_env=False)
    )


def request(number, **params):
    message = {"role": "user", "content": f"Say {number}"}
    return {
        "custom_id": f"item-{number}",
        "params": {"model": MODEL, "max_tokens": 20, "messages": [message], **params},
    }


def created_of(exchanged):
    """The facts of a create: the creation, and all the items of its chunks."""
    first, *rest = exchanged.added
    assert isinstance(first.fact, BatchCreated)
    assert [each.fact.chunk for each in rest] == list(range(first.fact.item_chunks))
    return first, [item for each in rest for item in each.fact.items]


@pytest.mark.parametrize("count", [3, 1000])
def test_a_batch_by_sdk_leaves_the_facts_of_its_life(count, edge, upstream):
    with sdk(edge) as client:
        requests = [request(number) for number in range(count)]
        requests[1]["params"]["litellm_metadata"] = {"user": "u-1", "tags": ["t"], "part": "second"}
        batch = client.messages.batches.create(
            requests=requests, extra_body={"litellm_metadata": {"tags": ["nightly"], "run": 7}}
        )
        upstream.finish_batch(batch.id)
        for _ in range(3):
            ended = client.messages.batches.retrieve(batch.id)
        results = list(client.messages.batches.results(batch.id))
        assert sorted(each.custom_id for each in results) == sorted(f"item-{n}" for n in range(count))
        client.messages.batches.delete(batch.id)
    create, *polls, results, deletion = edge.take()

    up = [each for each in upstream.received if each.method == "POST" and b"item-0" in each.body][-1]
    assert b"litellm_metadata" not in up.body
    assert json.loads(up.body) == {"requests": [request(number) for number in range(count)]}
    said, own = created_of(create)
    attribution = create.used.attribution
    assert (attribution.tags, attribution.metadata) == (("nightly",), {"run": "7"})
    assert (said.batch_id, said.edge_id, said.fact) == (
        batch.id,
        edge.edge_id,
        BatchCreated(
            created_at=batch.created_at,
            expires_at=batch.expires_at,
            requests=count,
            attribution=attribution,
            credential="default",
            request_id=create.used.request_id,
            models=(MODEL,),
            item_chunks=1,
            anthropic_version="2026-10-21",
        ),
    )
    assert own == [BatchItem(custom_id="item-1", end_user_id="u-1", tags=("t",), metadata={"part": "second"})]
    (seen,) = [fact for poll in polls for fact in poll.added]  # asked often, told once
    assert (seen.batch_id, seen.fact) == (
        batch.id,
        BatchSeen(
            status="ended",
            created_at=batch.created_at,
            expires_at=batch.expires_at,
            ended_at=ended.ended_at,
            counts=BatchCounts(succeeded=count),
            credential="default",
        ),
    )
    assert (results.added, [each.fact for each in deletion.added]) == ((), [BatchDeleted()])
    assert {each.used.operation for each in (create, *polls, results, deletion)} == {"batches"}


def test_a_page_and_a_cancel_tell_what_is_new(edge, upstream, client):
    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01", "x-simulate": "batch-seconds=60"}
    batch_id = client.post(edge.base_url + BATCHES, headers=headers, json={"requests": [request(1)]}).json()[
        "id"
    ]
    for method, path in (("GET", ""), ("POST", f"/{batch_id}/cancel"), ("GET", "?limit=1000")):
        client.request(method, edge.base_url + BATCHES + path, headers=headers)
    create, page, cancel, again = edge.take()
    assert [each.fact.requests for each in create.added] == [1]
    assert batch_id not in [each.batch_id for each in page.added]
    assert [(each.batch_id, each.fact.status) for each in cancel.added] == [(batch_id, "canceling")]
    assert [each.fact.status for each in again.added if each.batch_id == batch_id] in ([], ["ended"])


def test_items_of_an_own_key_are_metered_as_they_are_downloaded_and_always_as_the_same(
    own_key_edge, upstream
):
    own_key_edge.pass_over()
    with sdk(own_key_edge) as client:
        requests = [request(number) for number in range(30)] + [
            {**request(30), "custom_id": "errored-30"},
            {**request(31), "custom_id": "expired-31"},
        ]
        batch = client.messages.batches.create(requests=requests)
        upstream.finish_batch(batch.id)
        ended = client.messages.batches.retrieve(batch.id)
        path = f"{BATCHES}/{batch.id}/results"
        texts = [client.get(path, cast_to=httpx2.Response).text for _ in range(5)]
    create, _, *downloads = own_key_edge.take()

    assert [each.fact.credential for each in create.added] == [""]
    lines = [json.loads(line) for line in texts[0].splitlines()]
    used = downloads[0].added
    assert [(each.batch_custom_id, each.outcome, each.source_seq) for each in used] == [
        (line["custom_id"], line["result"]["type"], number) for number, line in enumerate(lines, 1)
    ]
    assert [each.request_id for each in used] == [
        batch_item_id(batch.id, line["custom_id"]) for line in lines
    ]
    assert sum(each.tokens.output_tokens for each in used) == sum(
        line["result"]["message"]["usage"]["output_tokens"]
        for line in lines
        if line["result"]["type"] == "succeeded"
    )
    assert {
        (each.started_at, each.finished_at, each.attribution.virtual_key_id, each.edge_id) for each in used
    } == {(batch.created_at, ended.ended_at, create.used.attribution.virtual_key_id, "")}
    ids = {tuple((each.request_id, each.source_seq) for each in download.added) for download in downloads}
    assert (len(downloads), len(ids), len(set(texts))) == (5, 1, 1)


def results_of(own_key_edge, upstream, client, coding=""):
    """Download the results of a batch that this edge has never seen; gives the answer and its exchange."""
    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
    body = {"requests": [request(number) for number in range(3)]}
    batch = client.post(upstream.base_url + BATCHES, headers=headers, json=body).json()
    upstream.finish_batch(batch["id"])
    own_key_edge.pass_over()
    if coding:
        headers["x-simulate"] = coding
    answer = client.get(f"{own_key_edge.base_url}{BATCHES}/{batch['id']}/results", headers=headers)
    return batch, answer, own_key_edge.take_one()


@pytest.mark.parametrize("coding", ["", "gzip", "zstd"])
def test_a_batch_that_this_edge_does_not_know_is_looked_up_first(coding, own_key_edge, upstream, client):
    batch, answer, exchanged = results_of(own_key_edge, upstream, client, coding)
    assert answer.status_code == 200
    created_at = datetime.fromisoformat(batch["created_at"])
    assert [(each.batch_id, each.started_at) for each in exchanged.added] == [(batch["id"], created_at)] * 3
    lookup = upstream.received[-1]
    assert (lookup.method, lookup.target) == ("GET", f"{BATCHES}/{batch['id']}".encode())
    assert dict(lookup.headers)[b"x-api-key"] == KEY.encode()


@pytest.mark.parametrize("framing", ["length", "chunked", "gzip"])
def test_a_create_goes_up_with_its_length_and_plain_where_it_was_cut(framing, edge, upstream, client):
    body = json.dumps({"requests": [request(1, litellm_metadata={"user": "u"})]}).encode()
    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01", "content-type": "application/json"}
    content = iter([body[:70], body[70:]]) if framing == "chunked" else body
    if framing == "gzip":
        headers["content-encoding"], content = "gzip", gzip.compress(body)
    answer = client.post(edge.base_url + BATCHES, headers=headers, content=content)
    assert answer.status_code == 200
    up = upstream.received[-1]
    names = {name.lower(): value for name, value in up.headers}
    assert json.loads(up.body) == {"requests": [request(1)]}
    assert names[b"content-length"] == b"%d" % len(up.body)
    assert b"content-encoding" not in names
    assert b"transfer-encoding" not in names
    said, own = created_of(edge.take_one())
    assert (said.fact.requests, own) == (1, [BatchItem(custom_id="item-1", end_user_id="u")])


def test_a_coded_create_without_metadata_goes_up_as_it_came(edge, upstream, client):
    body = gzip.compress(json.dumps({"requests": [request(1)]}).encode())
    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01", "content-encoding": "gzip"}
    assert client.post(edge.base_url + BATCHES, headers=headers, content=body).status_code == 200
    assert upstream.received[-1].body == body
    assert created_of(edge.take_one())[0].fact.models == (MODEL,)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"requests":[],"requests":[]}', "requests"),
        (b'{"requests":[{"params":{},"p\\u0061rams":{}}]}', "requests.0.params"),
        (b'{"requests":[{},{"params":{"model":"a","model":"b"}}]}', "requests.1.params.model"),
        (b'{"requests":[{"custom_id":"a","custom_id":"b"}]}', "requests.0.custom_id"),
    ],
)
def test_what_upstream_could_read_differently_is_refused(body, path, edge, upstream, client):
    before = len(upstream.received)
    answer = client.post(edge.base_url + BATCHES, headers={"x-api-key": KEY}, content=body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert answer.json()["error"]["message"].startswith(f"{path}: stands twice")
    assert (len(upstream.received), edge.take_one().used.outcome) == (before, "refused")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"requests":[{}', b"\xff", b'{"requests":[NaN]}'])
def test_what_is_no_json_passes_as_it_came_and_upstream_answers(body, edge, upstream, client):
    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01", "content-type": "application/json"}
    answer = client.post(edge.base_url + BATCHES, headers=headers, content=body)
    assert (answer.status_code, upstream.received[-1].body) == (400, body)
    exchanged = edge.take_one()
    assert (exchanged.used.outcome, exchanged.added) == ("upstream_error", ())


def test_a_download_whose_batch_cannot_be_looked_up_passes_and_says_that_it_was_not_metered(
    own_key_edge, upstream, client
):
    own_key_edge.pass_over()
    lines = b'{"custom_id":"a","result":{"type":"canceled"}}\n'
    upstream.reply_next(CannedReply(headers=((b"content-type", b"application/x-jsonl"),), chunks=(lines,)))
    upstream.reply_next(CannedReply(status=500, headers=(), chunks=(b"{}",)))
    before = unmetered("batch_unknown")
    answer = client.get(f"{own_key_edge.base_url}{BATCHES}/msgbatch_1/results", headers={"x-api-key": KEY})
    assert (answer.status_code, answer.content) == (200, lines)
    exchanged = own_key_edge.take_one()
    assert (exchanged.used.outcome, exchanged.added) == ("completed", ())
    assert unmetered("batch_unknown") == before + 1


def unmetered(reason):
    return REGISTRY.get_sample_value("edge_batch_downloads_unmetered_total", {"reason": reason}) or 0


def test_results_under_the_gateways_credential_are_left_to_the_batch_tracker(edge, upstream, client):
    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
    batch = client.post(edge.base_url + BATCHES, headers=headers, json={"requests": [request(1)]}).json()
    upstream.finish_batch(batch["id"])
    assert client.get(f"{edge.base_url}{BATCHES}/{batch['id']}/results", headers=headers).status_code == 200
    assert edge.take()[-1].added == ()


def test_a_batch_that_is_withheld_has_left_its_fact(edge, upstream, client):
    batch = {
        "id": "msgbatch_withheld",
        "type": "message_batch",
        "processing_status": "in_progress",
        "created_at": "2026-11-22T10:00:00Z",
        "expires_at": "2026-11-23T10:00:00Z",
        "results_url": "https://elsewhere.example/",
    }
    json_type = ((b"content-type", b"application/json"),)
    upstream.reply_next(CannedReply(headers=json_type, chunks=(json.dumps(batch).encode(),)))
    answer = client.post(edge.base_url + BATCHES, headers={"x-api-key": KEY}, json={"requests": []})
    assert answer.status_code == 502
    (fact,) = edge.take_one().added
    assert (fact.batch_id, fact.fact.requests) == ("msgbatch_withheld", 0)


def test_a_client_that_leaves_within_its_upload_leaves_no_exchange_and_no_file(edge, upstream):
    before = len(upstream.received)
    client = RawClient(edge)
    client.send(
        b"POST /v1/messages/batches HTTP/1.1\r\nhost: e\r\nx-api-key: k\r\ncontent-length: 900000\r\n\r\n"
    )
    client.send(b'{"requests":[' + b" " * 500_000)
    until(lambda: edge.gateway.intake.room.held > 0)
    client.leave()
    until(lambda: edge.gateway.intake.room.held == 0)
    assert (len(upstream.received), edge.take()) == (before, [])


def until(is_so):
    """Look again and again; what is waited for happens in the edge's thread, which tells nobody."""
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def small_edge(tmp_path_factory, upstream):
    config = EdgeConfig(
        batch_body_bytes_max=1_000_000,
        body_bytes_max=300_000,
        upstream=UpstreamConfig(base_url=upstream.base_url, api_key=KEY),
        batches=BatchesConfig(bytes_max=1_200_000, directory=str(tmp_path_factory.mktemp("files"))),
    )
    with Edge(tmp_path_factory.mktemp("small"), config) as running:
        yield running


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_batch_beyond_the_limit_is_refused(framing, small_edge, client):
    body = b'{"requests":[]}' + b" " * 1_000_000
    content = (
        body if framing == "length" else iter([body[at : at + 50_000] for at in range(0, len(body), 50_000)])
    )
    answer = client.post(small_edge.base_url + BATCHES, headers={"x-api-key": KEY}, content=content)
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "request_too_large")
    assert small_edge.take_one().used.outcome == "refused"
    assert small_edge.gateway.intake.room.held == 0


def test_a_batch_that_decodes_beyond_the_limit_is_refused(small_edge, client):
    headers = {"x-api-key": KEY, "content-encoding": "gzip"}
    body = gzip.compress(b'{"requests":[]}' + b" " * 1_000_000)
    answer = client.post(small_edge.base_url + BATCHES, headers=headers, content=body)
    assert answer.json()["error"]["details"]["error_code"] == "request_body_too_large_after_decoding"
    small_edge.take()


def test_one_request_beyond_the_limit_of_a_message_is_refused(small_edge, client):
    body = json.dumps({"requests": [request(1, system="x" * 400_000)]})
    answer = client.post(small_edge.base_url + BATCHES, headers={"x-api-key": KEY}, content=body)
    assert (answer.status_code, "One request" in answer.json()["error"]["message"]) == (413, True)
    small_edge.take()


def test_when_the_room_on_disk_is_taken_the_next_batch_waits_its_turn(small_edge, client):
    holding = RawClient(small_edge)
    holding.send(
        b"POST /v1/messages/batches HTTP/1.1\r\nhost: e\r\nx-api-key: k\r\ncontent-length: 900000\r\n\r\n"
    )
    holding.send(b" " * 800_000)
    until(lambda: small_edge.gateway.intake.room.held >= 500_000)
    answer = client.post(small_edge.base_url + BATCHES, headers={"x-api-key": KEY}, content=b" " * 900_000)
    assert (answer.status_code, answer.headers["retry-after"], answer.headers["x-should-retry"]) == (
        529,
        "5",
        "true",
    )
    holding.leave()
    until(lambda: small_edge.gateway.intake.room.held == 0)
    small_edge.take()
