"""What becomes of a batch and of its items, worked out by hand; no server, and the clock stands still."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.local_anthropic.callers import DAY, Caller

BATCHES = "/v1/messages/batches"
PARAMS = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "What passed?"}],
}
NOBODY = {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}


@pytest.fixture
def caller():
    return Caller()


def items(*custom_ids, **changes):
    return {"requests": [{"custom_id": each, "params": PARAMS | changes} for each in custom_ids]}


def results(caller, batch):
    _, content = caller.call("GET", f"{BATCHES}/{batch['id']}/results")
    return [json.loads(line) for line in content.splitlines()]


def kinds(caller, batch):
    return {line["custom_id"]: line["result"]["type"] for line in results(caller, batch)}


def test_a_new_batch_is_in_progress_with_every_item_processing(caller):
    assert caller.ask("POST", BATCHES, items("a", "errored-b")) == {
        "id": "msgbatch_010000000000000000000001",
        "type": "message_batch",
        "processing_status": "in_progress",
        "request_counts": NOBODY | {"processing": 2},
        "ended_at": None,
        "created_at": "2027-01-15T08:00:00.000000+00:00",
        "expires_at": "2027-01-16T08:00:00.000000+00:00",
        "archived_at": None,
        "cancel_initiated_at": None,
        "results_url": None,
    }


def test_the_next_look_finds_it_ended_with_results_on_the_same_host():
    caller = Caller(base_url="http://there:1")
    batch = caller.ask("POST", BATCHES, items("a"))
    caller.api.advance(1)
    assert caller.ask("GET", f"{BATCHES}/{batch['id']}") == batch | {
        "processing_status": "ended",
        "request_counts": NOBODY | {"succeeded": 1},
        "ended_at": "2027-01-15T08:00:00.000000+00:00",
        "results_url": f"http://there:1/v1/messages/batches/{batch['id']}/results",
    }


def test_results_come_last_item_first_with_usage_of_the_batch_tier(caller):
    batch = caller.ask("POST", BATCHES, items("a", "b"))
    caller.api.advance(1)
    first, second = results(caller, batch)
    assert (first["custom_id"], second["custom_id"]) == ("b", "a")
    assert second["result"]["type"] == "succeeded"
    assert second["result"]["message"]["id"] == "msg_020000000000000001000000"
    assert second["result"]["message"]["usage"] == {
        "input_tokens": 3,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 12,
        "service_tier": "batch",
        "inference_geo": "global",
    }


def test_every_reading_of_results_gives_the_same_bytes(caller):
    marked = [{"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral"}}]
    batch = caller.ask("POST", BATCHES, items("a", "b", system=marked))
    caller.api.advance(1)
    first, second = results(caller, batch), results(caller, batch)
    assert first == second
    read = [line["result"]["message"]["usage"]["cache_read_input_tokens"] for line in first]
    assert read == [0, 100]


def test_a_prefix_of_the_custom_id_scripts_the_outcome(caller):
    batch = caller.ask("POST", BATCHES, items("a", "errored-1", "canceled-1", "expired-1"))
    caller.api.advance(1)
    assert kinds(caller, batch) == {
        "a": "succeeded",
        "errored-1": "errored",
        "canceled-1": "canceled",
        "expired-1": "expired",
    }
    counts = caller.ask("GET", f"{BATCHES}/{batch['id']}")["request_counts"]
    assert counts == NOBODY | {"succeeded": 1, "errored": 1, "canceled": 1, "expired": 1}
    assert results(caller, batch)[2]["result"]["error"] == {
        "type": "error",
        "error": {"type": "api_error", "message": "Internal server error"},
        "request_id": "req_020000000000000001000001",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stream": True}, "stream: not supported in a batch"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"speed": "fast"}, "speed: not supported in a batch"),
        ({"store": True}, "store: not supported in a batch"),
        ({"model": "claude-none"}, "model: claude-none"),
        ({"messages": []}, "messages: at least one message is required"),
        (
            {"tools": [{"name": "t", "input_schema": {}}], "tool_choice": {"type": "tool", "name": "u"}},
            "Tool 'u' not found in provided tools",
        ),
    ],
)
def test_params_that_a_batch_does_not_take_make_an_errored_item_and_not_a_refused_batch(
    caller, changes, message
):
    batch = caller.ask("POST", BATCHES, items("a", **changes))
    caller.api.advance(1)
    (line,) = results(caller, batch)
    assert (line["result"]["type"], line["result"]["error"]["error"]["message"]) == ("errored", message)
    counts = caller.ask("GET", f"{BATCHES}/{batch['id']}")["request_counts"]
    assert counts == NOBODY | {"errored": 1}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"requests": []}, "requests: List should have at least 1 item after validation, not 0"),
        (
            items("a b"),
            "requests.0.custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'",
        ),
        (items("a", "a"), "requests.1.custom_id: Duplicate custom_id 'a'"),
        (
            {"requests": [{"params": {}}]},
            "requests: Object missing required field `custom_id` - at `$.requests[0]`",
        ),
    ],
)
def test_what_is_no_batch_is_refused(caller, body, message):
    assert caller.refused("POST", BATCHES, body) == (400, "invalid_request_error", message)


def test_a_slow_batch_ends_when_its_time_is_over(caller):
    batch = caller.ask("POST", BATCHES, items("a"), "batch-seconds=60")
    place = f"{BATCHES}/{batch['id']}"
    caller.api.advance(60)
    assert caller.ask("GET", place) == batch
    assert caller.refused("GET", place + "/results")[:2] == (400, "invalid_request_error")
    caller.api.advance(1)
    assert caller.ask("GET", place)["ended_at"] == "2027-01-15T08:01:00.000000+00:00"


def test_what_is_done_when_a_batch_is_canceled_stays_done(caller):
    batch = caller.ask(
        "POST", BATCHES, items("a", "b", "c", "expired-d"), "batch-seconds=100;cancel-seconds=5"
    )
    place = f"{BATCHES}/{batch['id']}"
    caller.api.advance(50)
    canceling = batch | {
        "processing_status": "canceling",
        "cancel_initiated_at": "2027-01-15T08:00:50.000000+00:00",
    }
    assert caller.ask("POST", place + "/cancel") == canceling
    caller.api.advance(5)
    assert caller.ask("POST", place + "/cancel") == canceling
    caller.api.advance(1)
    ended = caller.ask("GET", place)
    assert (ended["ended_at"], ended["processing_status"]) == ("2027-01-15T08:00:55.000000+00:00", "ended")
    assert ended["request_counts"] == NOBODY | {"succeeded": 2, "canceled": 1, "expired": 1}
    assert kinds(caller, batch) == {
        "a": "succeeded",
        "b": "succeeded",
        "c": "canceled",
        "expired-d": "expired",
    }
    assert caller.refused("POST", place + "/cancel")[0] == 400


def test_what_is_not_done_in_a_day_expires(caller):
    batch = caller.ask("POST", BATCHES, items("a", "b", "c", "d"), f"batch-seconds={2 * DAY}")
    caller.api.advance(DAY + 1)
    ended = caller.ask("GET", f"{BATCHES}/{batch['id']}")
    assert ended["ended_at"] == batch["expires_at"]
    assert ended["request_counts"] == NOBODY | {"succeeded": 2, "expired": 2}


def test_results_are_gone_after_29_days(caller):
    batch = caller.ask("POST", BATCHES, items("a"))
    place = f"{BATCHES}/{batch['id']}"
    caller.api.advance(29 * DAY - 1)
    assert caller.ask("GET", place)["archived_at"] is None
    caller.api.advance(1)
    archived = caller.ask("GET", place)
    assert (archived["archived_at"], archived["results_url"]) == ("2027-02-13T08:00:00.000000+00:00", None)
    assert caller.refused("GET", place + "/results")[:2] == (404, "not_found_error")


def test_a_test_can_end_a_batch(caller):
    batch = caller.ask("POST", BATCHES, items("a"), "batch-seconds=600")
    caller.api.finish_batch(batch["id"])
    assert caller.ask("GET", f"{BATCHES}/{batch['id']}")["request_counts"] == NOBODY | {"succeeded": 1}


def test_only_an_ended_batch_can_be_deleted(caller):
    batch = caller.ask("POST", BATCHES, items("a"))
    place = f"{BATCHES}/{batch['id']}"
    assert caller.refused("DELETE", place)[:2] == (400, "invalid_request_error")
    caller.api.advance(1)
    assert caller.ask("DELETE", place) == {"id": batch["id"], "type": "message_batch_deleted"}
    for method, target in [("GET", place), ("DELETE", place), ("POST", place + "/cancel")]:
        assert caller.refused(method, target) == (
            404,
            "not_found_error",
            f"Batch {batch['id']} was not found.",
        )


def test_the_list_is_paged_newest_first_both_ways(caller):
    ids = [caller.ask("POST", BATCHES, items("a"))["id"] for _ in range(5)][::-1]

    def page(query):
        answer = caller.ask("GET", f"{BATCHES}?{query}")
        listed = [batch["id"] for batch in answer["data"]]
        assert (answer["first_id"], answer["last_id"]) == (listed[0], listed[-1])
        return listed, answer["has_more"]

    assert page("") == (ids, False)
    assert page("limit=2") == (ids[:2], True)
    assert page(f"limit=2&after_id={ids[1]}") == (ids[2:4], True)
    assert page(f"limit=2&after_id={ids[3]}") == (ids[4:], False)
    assert page(f"limit=2&before_id={ids[3]}") == (ids[1:3], True)
    assert page(f"limit=2&before_id={ids[2]}") == (ids[:2], False)
    assert caller.refused("GET", f"{BATCHES}?after_id=no")[0] == 400


def test_a_batch_keeps_the_version_of_its_creation(caller):
    warm = items("a", temperature=0.5)
    old = caller.ask("POST", BATCHES, warm, anthropic_version="2023-06-01")
    new = caller.ask("POST", BATCHES, warm, anthropic_version="2026-10-21")
    caller.api.advance(1)
    assert (kinds(caller, old), kinds(caller, new)) == ({"a": "succeeded"}, {"a": "errored"})


def test_the_books_hold_messages_and_the_items_of_ended_batches_once_and_after_deletion_too(caller):
    message = caller.ask("POST", "/v1/messages", PARAMS)
    batch = caller.ask("POST", BATCHES, items("a", "errored-b"), "output-tokens=5")
    (before,) = caller.api.served()
    caller.api.advance(1)
    kept = list(caller.api.served())
    caller.ask("DELETE", f"{BATCHES}/{batch['id']}")
    assert before.message_id == message["id"]
    assert [(one.custom_id, one.usage.output_tokens, one.usage.service_tier) for one in kept] == [
        (None, 12, "standard"),
        ("a", 5, "batch"),
    ]
    assert list(caller.api.served()) == kept


def test_another_process_can_steer_the_simulation(caller):
    batch = caller.ask("POST", BATCHES, items("a"), "batch-seconds=60")
    ended = caller.ask("POST", f"/simulation/batches/{batch['id']}/finish")
    assert ended["processing_status"] == "ended"
    assert caller.ask("POST", "/simulation/advance?seconds=60") == {"now": 1_800_000_060.0}
    _, served = caller.call("GET", "/simulation/served")
    (entry,) = [json.loads(line) for line in served.splitlines()]
    assert (entry["batch_id"], entry["custom_id"], entry["usage"]["output_tokens"]) == (batch["id"], "a", 12)
    for method, target in [("POST", "/simulation/advance?seconds=-1"), ("GET", "/simulation/")]:
        assert caller.refused(method, target)[0] in (400, 404)


@given(
    fates=st.lists(st.sampled_from(["a", "errored", "canceled", "expired"]), min_size=1, max_size=12),
    seconds=st.integers(0, 100),
    canceled_after=st.integers(0, 120),
)
def test_the_counts_are_those_of_the_results(fates, seconds, canceled_after):
    caller = Caller()
    names = [f"{fate}-{position}" for position, fate in enumerate(fates)]
    batch = caller.ask("POST", BATCHES, items(*names), f"batch-seconds={seconds}")
    caller.api.advance(canceled_after)
    caller.call("POST", f"{BATCHES}/{batch['id']}/cancel")
    caller.api.advance(2 * DAY)
    counts = caller.ask("GET", f"{BATCHES}/{batch['id']}")["request_counts"]
    found = list(kinds(caller, batch).values())
    assert counts == {"processing": 0} | {kind: found.count(kind) for kind in list(NOBODY)[1:]}


def test_ids_of_items_are_those_of_no_other_message(caller):
    caller.number = 1_000_000
    batch = caller.ask("POST", BATCHES, items("a"))
    caller.api.advance(1)
    (line,) = results(caller, batch)
    assert re.fullmatch(r"msg_02\d{22}", line["result"]["message"]["id"])
    assert caller.ask("POST", "/v1/messages", PARAMS)["id"].startswith("msg_01")
