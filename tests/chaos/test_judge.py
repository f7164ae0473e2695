"""The judge finds what is missing, doubled or wrong: a proof that cannot fail would prove nothing."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from services.edge.identity import own_key_id
from services.local.anthropic.books import Served
from services.local.anthropic.usage import CacheCreation, Usage
from services.rating.book.file import load
from tests.chaos.evidence import Evidence, Row
from tests.chaos.judge import judge
from tests.chaos.traffic import KEYS, Ask, Receipt

BOOK = load("", "")
SENT_AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ASK = Ask(key=KEYS[0], tag="eval", end_user="ada", is_stream=True)
USAGE = Usage(
    input_tokens=100,
    cache_creation_input_tokens=30,
    cache_read_input_tokens=20,
    cache_creation=CacheCreation(ephemeral_5m_input_tokens=10, ephemeral_1h_input_tokens=20),
    output_tokens=50,
    service_tier="standard",
    inference_geo="global",
)
RECEIPT = Receipt(
    ask=ASK,
    sent_at=SENT_AT,
    ending="complete",
    edge="http://edge",
    request_id="r-1",
    status=200,
    is_upstreams=True,
    message_id="msg_1",
    model_served=ASK.model,
    usage={
        "input_tokens": 100,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 20,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        "output_tokens": 50,
        "service_tier": "standard",
        "inference_geo": "global",
    },
)
ROW = Row(
    request_id="r-1",
    edge_id="edge",
    exchange_seq=1,
    virtual_key_id=own_key_id(KEYS[0], ""),
    tags=["chaos", "eval"],
    end_user_id="ada",
    operation="messages",
    is_stream=True,
    model_served=ASK.model,
    message_id="msg_1",
    http_status=200,
    outcome="completed",
    usage_status="final",
    input_tokens=100,
    output_tokens=50,
    cache_read_tokens=20,
    cache_write_5m_tokens=10,
    cache_write_1h_tokens=20,
    thinking_tokens=0,
    cost_status="priced",
    # 100 x 2e-6 + 50 x 1e-5 + 20 x 1e-7 + 10 x 2.5e-6 + 20 x 4e-6
    cost_usd=Decimal("0.000807"),
)
SERVED = Served(message_id="msg_1", model=ASK.model, usage=USAGE)
OTHER = RECEIPT._replace(request_id="r-2", message_id="", ending="cut", usage=None, status=0)
OTHER_ROW = ROW._replace(
    request_id="r-2",
    exchange_seq=2,
    message_id="",
    outcome="orphaned",
    usage_status="none",
    **dict.fromkeys(("input_tokens", "output_tokens", "cache_read_tokens"), 0),
    **dict.fromkeys(("cache_write_5m_tokens", "cache_write_1h_tokens"), 0),
)
CLEAN = Evidence([RECEIPT, OTHER], [SERVED], [ROW, OTHER_ROW], ["r-1", "r-2"], ["r-1", "r-2"], {"edge": 2})


def found(evidence):
    judgement = judge(evidence, BOOK)
    return len(judgement.missing), len(judgement.doubled), len(judgement.wrong)


def with_row(**changes):
    return CLEAN._replace(rows=[ROW._replace(**changes), OTHER_ROW])


def test_what_is_as_it_must_be_has_no_findings():
    judgement = judge(CLEAN, BOOK)
    assert judgement.is_clean, judgement


def test_a_usage_that_is_not_there_is_missing_by_its_answer_its_number_and_its_key():
    missing, doubled, wrong = found(CLEAN._replace(rows=[OTHER_ROW]))
    # as a complete answer, as exchange 1, and in responses and requests; the totals of key and tag differ
    assert (missing, doubled, wrong) == (4, 0, 2)


def test_an_exchange_that_only_a_heartbeat_knows_is_missing():
    assert judge(CLEAN._replace(last_heard={"edge": 3}), BOOK).missing == ["exchange 3 of 3 of edge edge"]


def test_an_edge_that_was_only_heard_is_missed_with_everything_it_counted():
    assert found(CLEAN._replace(last_heard={"edge": 2, "silent": 2})) == (2, 0, 0)


def test_an_exchange_without_its_request_or_response_is_missing():
    assert found(CLEAN._replace(requests=["r-1"], responses=["r-2"])) == (2, 0, 0)


def test_a_row_that_is_there_twice_is_doubled():
    evidence = CLEAN._replace(rows=[ROW, ROW, OTHER_ROW])
    assert judge(evidence, BOOK).doubled == [
        "usage r-1 x2",
        "usage of a message msg_1 x2",
        "exchange edge/1 x2",
    ]


def test_a_message_under_two_ids_is_doubled():
    again = ROW._replace(request_id="r-3", exchange_seq=3)
    evidence = CLEAN._replace(
        rows=[*CLEAN.rows, again], requests=["r-1", "r-2", "r-3"], responses=["r-1", "r-2", "r-3"]
    )
    assert found(evidence) == (0, 1, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"cost_usd": Decimal("0.000808")},
        {"cost_usd": None, "cost_status": "unpriced"},
        {"outcome": "client_gone"},
        {"usage_status": "estimated"},
        {"virtual_key_id": own_key_id(KEYS[1], "")},
        {"tags": ["chaos", "draft"]},
        {"end_user_id": "grace"},
        {"model_served": "claude-opus-5-5"},
        {"message_id": "msg_2"},
        {"is_stream": False},
        {"operation": "count_tokens"},
        {"output_tokens": 51},
        {"cache_write_5m_tokens": 30, "cache_write_1h_tokens": 0},
    ],
    ids=str,
)
def test_a_row_that_says_otherwise_than_its_client_is_wrong(change):
    missing, doubled, wrong = found(with_row(**change))
    assert (missing, doubled) == (0, 0)
    assert wrong > 0


def test_books_that_differ_from_ours_are_wrong_by_row_key_and_tag():
    served = Served(
        message_id="msg_1", model=ASK.model, usage=USAGE.__class__(**{**_members(USAGE), "output_tokens": 49})
    )
    judgement = judge(CLEAN._replace(served=[served]), BOOK)
    assert len(judgement.wrong) == 3


def test_a_message_that_anthropic_never_served_is_wrong():
    assert found(CLEAN._replace(served=[])) == (0, 0, 2)


def test_an_answer_of_anthropics_own_that_is_booked_as_an_end_of_ours_is_wrong():
    receipt = OTHER._replace(ending="error", status=529, is_upstreams=True)
    evidence = CLEAN._replace(receipts=[RECEIPT, receipt])
    assert judge(evidence, BOOK).wrong == ["r-2 (error 529, , http://edge) is booked as orphaned"]


def _members(usage):
    return {name: getattr(usage, name) for name in usage.__struct_fields__}
