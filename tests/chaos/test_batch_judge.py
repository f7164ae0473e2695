"""The judge finds items of batches that are missing, doubled or wrong, and takes them for no exchanges."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from schemas.ids import batch_item_id
from services.local.anthropic.books import Served
from services.local.anthropic.usage import CacheCreation, Usage
from services.rating.book.file import load
from tests.chaos.batch_traffic import BatchCall, Item, Key
from tests.chaos.evidence import BatchRow, EndedBatch, Evidence, Row
from tests.chaos.judge import judge
from tests.chaos.traffic import Receipt

BOOK = load("", "")
SENT_AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
KEY = Key("sk-secret", "vk_1", "search", "ledger")
PLAIN = Item("b1-0")
OWN = Item("b1-1", metadata={"user": "grace", "tags": ["own", "nightly"], "session_id": "mine", "part": 2})
BAD = Item("errored-b1-2", user_id="person-1")
CREATE = BatchCall(KEY, tag="nightly", end_user="ada", name="b1", items=(PLAIN, OWN, BAD))
MADE = Receipt(
    ask=CREATE,
    sent_at=SENT_AT,
    ending="complete",
    edge="http://edge",
    request_id="r-1",
    status=200,
    is_upstreams=True,
    answer=b'{"id": "batch_1"}',
)
USAGE = Usage(
    input_tokens=100,
    cache_creation_input_tokens=30,
    cache_read_input_tokens=20,
    cache_creation=CacheCreation(ephemeral_5m_input_tokens=10, ephemeral_1h_input_tokens=20),
    output_tokens=50,
    service_tier="batch",
    inference_geo="global",
)
SERVED = [
    Served(
        message_id=f"msg_{number}", model=PLAIN.model, usage=USAGE, batch_id="batch_1", custom_id=custom_id
    )
    for number, custom_id in enumerate(("b1-0", "b1-1"))
]
# Half of 100 x 2e-6 + 50 x 1e-5 + 20 x 1e-7 + 10 x 2.5e-6 + 20 x 4e-6.
COST = Decimal("0.0004035")
CREATION_ROW = Row(
    request_id="r-1",
    edge_id="edge",
    exchange_seq=1,
    virtual_key_id="vk_1",
    tags=["chaos", "nightly"],
    end_user_id="ada",
    operation="batches",
    is_stream=False,
    model_served="",
    message_id="",
    http_status=200,
    outcome="completed",
    usage_status="none",
    input_tokens=0,
    output_tokens=0,
    cache_read_tokens=0,
    cache_write_5m_tokens=0,
    cache_write_1h_tokens=0,
    thinking_tokens=0,
    cost_status="zero",
    cost_usd=Decimal(0),
)
PLAIN_ROW = CREATION_ROW._replace(
    request_id=batch_item_id("batch_1", "b1-0"),
    edge_id="",
    exchange_seq=0,
    operation="batch_item",
    model_served=PLAIN.model,
    message_id="msg_0",
    outcome="succeeded",
    usage_status="final",
    input_tokens=100,
    output_tokens=50,
    cache_read_tokens=20,
    cache_write_5m_tokens=10,
    cache_write_1h_tokens=20,
    cost_status="priced",
    cost_usd=COST,
    key_alias="search",
    team_id="ledger",
    session_id="session-b1",
    metadata={"job": "b1"},
    batch_id="batch_1",
    batch_custom_id="b1-0",
)
OWN_ROW = PLAIN_ROW._replace(
    request_id=batch_item_id("batch_1", "b1-1"),
    message_id="msg_1",
    batch_custom_id="b1-1",
    end_user_id="grace",
    tags=["chaos", "nightly", "own"],
    session_id="mine",
    metadata={"job": "b1", "part": "2"},
)
BAD_ROW = CREATION_ROW._replace(
    request_id=batch_item_id("batch_1", "errored-b1-2"),
    edge_id="",
    exchange_seq=0,
    operation="batch_item",
    http_status=0,
    outcome="errored",
    key_alias="search",
    team_id="ledger",
    end_user_id="person-1",
    session_id="session-b1",
    metadata={"job": "b1"},
    batch_id="batch_1",
    batch_custom_id="errored-b1-2",
)
STATE = BatchRow(
    batch_id="batch_1",
    phase="booked",
    requests=3,
    items_booked=3,
    items=3,
    succeeded=2,
    errored=1,
    canceled=0,
    expired=0,
    virtual_key_id="vk_1",
    key_alias="search",
    team_id="ledger",
    request_id="r-1",
    is_adopted=False,
    cost_usd=2 * COST,
    error="",
)
ENDED = EndedBatch("batch_1", {"b1-0": "succeeded", "b1-1": "succeeded", "errored-b1-2": "errored"})
ITEMS = [PLAIN_ROW, OWN_ROW, BAD_ROW]
CLEAN = Evidence(
    [MADE], SERVED, [CREATION_ROW, *ITEMS], ["r-1"], ["r-1"], {"edge": 1}, ended=[ENDED], batches=[STATE]
)
NOBODYS = {"virtual_key_id": "unattributed", "key_alias": "", "team_id": "", "request_id": ""}


def found(evidence):
    judgement = judge(evidence, BOOK)
    return len(judgement.missing), len(judgement.doubled), len(judgement.wrong)


def with_items(*items):
    return CLEAN._replace(rows=[CREATION_ROW, *items])


def with_state(**changes):
    return CLEAN._replace(batches=[STATE._replace(**changes)])


def nobodys(row):
    return row._replace(
        **dict.fromkeys(("key_alias", "team_id", "end_user_id", "session_id"), ""),
        virtual_key_id="unattributed",
        tags=[],
        metadata={},
    )


def test_a_batch_that_is_as_it_must_be_has_no_findings_and_its_items_are_no_exchanges():
    judgement = judge(CLEAN, BOOK)
    assert judgement.is_clean, judgement


def test_an_item_costs_half_of_a_message():
    assert judge(with_items(PLAIN_ROW._replace(cost_usd=2 * COST), OWN_ROW, BAD_ROW), BOOK).wrong == [
        f"item ('batch_1', 'b1-0'): (expected, found) {{'cost_usd': {(COST, 2 * COST)}}}"
    ]


def test_an_item_that_is_not_there_is_missing():
    judgement = judge(with_items(OWN_ROW, BAD_ROW), BOOK)
    # Its key, and the tags that it would have, have less than Anthropic.
    assert (judgement.missing, len(judgement.wrong)) == (["item ('batch_1', 'b1-0')"], 3)


def test_an_item_that_failed_is_missed_like_any_other():
    assert found(with_items(PLAIN_ROW, OWN_ROW)) == (1, 0, 3)


def test_an_item_that_is_there_twice_is_doubled():
    again = PLAIN_ROW._replace(request_id="another", message_id="another")
    missing, doubled, _ = found(with_items(*ITEMS, again))
    assert (missing, doubled) == (0, 1)


def test_an_item_that_anthropic_does_not_have_is_wrong():
    more = BAD_ROW._replace(request_id="more", batch_custom_id="b1-9")
    judgement = judge(with_items(*ITEMS, more), BOOK)
    assert "item ('batch_1', 'b1-9') is booked, and is no item of Anthropic's" in judgement.wrong


@pytest.mark.parametrize(
    "change",
    [
        {"virtual_key_id": "unattributed"},
        {"key_alias": ""},
        {"team_id": "other"},
        {"end_user_id": "ada"},
        {"session_id": "session-b1"},
        {"tags": ["chaos", "nightly"]},
        {"metadata": {"job": "b1"}},
        {"model_served": "claude-opus-5-5"},
        {"message_id": "msg_0"},
        {"outcome": "errored"},
        {"usage_status": "none"},
        {"http_status": 0},
        {"output_tokens": 51},
        {"cache_write_5m_tokens": 30, "cache_write_1h_tokens": 0},
        {"cost_usd": None, "cost_status": "unpriced"},
        {"request_id": "of no rule"},
    ],
    ids=str,
)
def test_an_item_that_is_booked_otherwise_than_it_was_asked_for_is_wrong(change):
    _, _, wrong = found(with_items(PLAIN_ROW, OWN_ROW._replace(**change), BAD_ROW))
    assert wrong > 0


@pytest.mark.parametrize("phase", ["waiting", "booking", "mismatch", "gone", "no_access"])
def test_a_batch_that_is_not_booked_is_missing(phase):
    assert judge(with_state(phase=phase), BOOK).missing == [f"batch batch_1, which is {phase}"]


def test_a_batch_that_nobody_here_knows_is_missing():
    assert judge(CLEAN._replace(batches=[]), BOOK).missing == ["batch batch_1, which is not known"]


@pytest.mark.parametrize(
    "change",
    [
        {"requests": 4},
        {"items_booked": 2},
        {"items": 4},
        {"succeeded": 3, "errored": 0},
        {"cost_usd": COST},
        {"cost_usd": None},
        {"virtual_key_id": "vk_2"},
        {"request_id": "r-2"},
        {"is_adopted": True},
    ],
    ids=str,
)
def test_a_batch_that_says_otherwise_than_its_items_and_its_maker_is_wrong(change):
    assert found(with_state(**change)) == (0, 0, 1)


def test_a_batch_of_two_rows_and_a_call_that_made_two_batches_are_doubled():
    assert judge(CLEAN._replace(batches=[STATE, STATE]), BOOK).doubled == ["batch batch_1 x2"]
    other = ENDED._replace(batch_id="batch_2")
    assert "batches made by one call b1 x2" in judge(CLEAN._replace(ended=[ENDED, other]), BOOK).doubled


def test_a_batch_that_only_one_side_knows_is_wrong():
    receipt = MADE._replace(answer=b'{"id": "batch_2"}')
    assert judge(CLEAN._replace(receipts=[receipt]), BOOK).wrong == [
        "Anthropic knows nothing of batch batch_2"
    ]
    stranger = EndedBatch("batch_3", {"b7-0": "expired"})
    booked = STATE._replace(batch_id="batch_3")
    evidence = CLEAN._replace(ended=[ENDED, stranger], batches=[STATE, booked])
    assert judge(evidence, BOOK).wrong == ["nobody has asked for batch batch_3"]


def test_where_the_answer_to_a_creation_was_cut_the_batch_may_be_its_makers_or_nobodys():
    cut = MADE._replace(ending="cut", answer=b"", status=0)
    assert found(CLEAN._replace(receipts=[cut])) == (0, 0, 0)
    adopted = CLEAN._replace(
        receipts=[cut],
        rows=[CREATION_ROW, *map(nobodys, ITEMS)],
        batches=[STATE._replace(**NOBODYS, is_adopted=True)],
    )
    assert found(adopted) == (0, 0, 0)
    mixed = adopted._replace(rows=[CREATION_ROW, PLAIN_ROW, *map(nobodys, (OWN_ROW, BAD_ROW))])
    assert found(mixed)[2] > 0


def test_a_batch_whose_maker_has_the_answer_may_not_be_nobodys():
    adopted = CLEAN._replace(
        rows=[CREATION_ROW, *map(nobodys, ITEMS)], batches=[STATE._replace(**NOBODYS, is_adopted=True)]
    )
    assert found(adopted)[2] > 3


def test_results_that_a_client_read_otherwise_are_wrong():
    ends = ENDED.outcomes | {"b1-1": "canceled"}
    lines = [json.dumps({"custom_id": name, "result": {"type": end}}) for name, end in ends.items()]
    call = BatchCall(KEY, "results", "batch_1", tag="nightly")
    read = MADE._replace(ask=call, request_id="r-2", answer="\n".join(lines).encode())
    row = CREATION_ROW._replace(request_id="r-2", exchange_seq=2)
    evidence = CLEAN._replace(
        receipts=[MADE, read],
        rows=[CREATION_ROW, row, *ITEMS],
        requests=["r-1", "r-2"],
        responses=["r-1", "r-2"],
    )
    assert judge(evidence, BOOK).wrong == ["results of batch batch_1, as read by r-2"]
