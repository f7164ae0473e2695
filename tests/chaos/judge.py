"""Holds what clients and Anthropic have against what Tollhouse booked; pure, and knows no process."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from schemas.attribution import Attribution
from schemas.exchange import UsageStatus
from schemas.ids import EdgeId, RequestId, SourceId
from schemas.usage import TokenCounts, UsageRecorded
from services.rating.book.price_book import PriceBook
from services.rating.pricing import rate
from tests.chaos.batch_judge import judge_batches
from tests.chaos.evidence import (
    BATCH_ITEM,
    COUNTS,
    Evidence,
    Judgement,
    Row,
    counted,
    counts_of,
    sums_that_differ,
    totals,
)
from tests.chaos.traffic import Receipt


def judge(evidence: Evidence, book: PriceBook) -> Judgement:
    """Say what is missing, what is there twice, and what is there but not right."""
    exchanges = [row for row in evidence.rows if row.operation != BATCH_ITEM]
    by_id = {row.request_id: row for row in exchanges}
    owed = [each for each in evidence.receipts if each.request_id and _is_on_the_record(each)]
    missing = [f"no usage of {_named(each)}" for each in owed if each.request_id not in by_id]
    missing += _gaps(exchanges, evidence.last_heard)
    known = set(by_id)
    for view, ids in (("requests", evidence.requests), ("responses", evidence.responses)):
        missing += [f"{view} lacks {each}" for each in sorted(known - set(ids))]
        missing += [f"usage lacks {each} of {view}" for each in sorted(set(ids) - known)]
    pairs = [(each, by_id[each.request_id]) for each in owed if each.request_id in by_id]
    wrong = [fault for receipt, row in pairs for fault in _faults(receipt, row, book)]
    wrong += _differs_from_the_books(evidence, by_id)
    batches = judge_batches(evidence, book)
    return Judgement(
        [*missing, *batches.missing],
        [*_doubled(evidence, exchanges), *batches.doubled],
        [*wrong, *batches.wrong],
    )


def _is_on_the_record(receipt: Receipt) -> bool:
    """Everything that got an answer, but what the gateway turned away before it began."""
    return not (receipt.ending == "error" and not receipt.is_upstreams and receipt.status == 503)


def _named(receipt: Receipt) -> str:
    return f"{receipt.request_id} ({receipt.ending} {receipt.status}, {receipt.message_id}, {receipt.edge})"


def _gaps(exchanges: Sequence[Row], last_heard: Mapping[str, int]) -> list[str]:
    """Each edge numbers its exchanges from 1: every number up to the highest that was heard of has a row."""
    found: dict[str, set[int]] = defaultdict(set)
    for row in exchanges:
        found[row.edge_id].add(row.exchange_seq)
    gaps: list[str] = []
    for edge_id in sorted(found.keys() | last_heard.keys()):
        highest = max(found[edge_id] | {last_heard.get(edge_id, 0)})
        gone = sorted(set(range(1, highest + 1)) - found[edge_id])
        gaps += [f"exchange {seq} of {highest} of edge {edge_id}" for seq in gone]
    return gaps


def _doubled(evidence: Evidence, exchanges: Sequence[Row]) -> list[str]:
    doubled: list[str] = []
    counted = {
        "usage": [row.request_id for row in evidence.rows],
        "requests": evidence.requests,
        "responses": evidence.responses,
        "usage of a message": [row.message_id for row in evidence.rows if row.message_id],
        "exchange": [f"{row.edge_id}/{row.exchange_seq}" for row in exchanges],
    }
    for what, ids in counted.items():
        doubled += [f"{what} {each} x{count}" for each, count in Counter(ids).items() if count > 1]
    return doubled


def _faults(receipt: Receipt, row: Row, book: PriceBook) -> list[str]:
    """Compare one row with what its client has of the exchange."""
    expected: dict[str, object] = {
        "virtual_key_id": receipt.ask.virtual_key_id,
        "tags": ["chaos", receipt.ask.tag],
        "end_user_id": receipt.ask.end_user,
        "operation": receipt.ask.operation,
        "is_stream": receipt.ask.is_stream,
    }
    found = {name: getattr(row, name) for name in expected} | {"tags": list(row.tags)}
    if receipt.ending == "complete":
        expected |= _expected_of_complete(receipt, book)
        found |= {name: getattr(row, name) for name in expected if name not in found}
    elif row.outcome not in _possible_outcomes(receipt):
        return [f"{_named(receipt)} is booked as {row.outcome}"]
    differing = {name: (expected[name], found[name]) for name in expected if expected[name] != found[name]}
    return [f"{_named(receipt)}: (expected, found) {differing}"] if differing else []


def _possible_outcomes(receipt: Receipt) -> tuple[str, ...]:
    """A client that saw no end cannot know it: its answer may have ended without it."""
    if receipt.ending == "error":
        return ("upstream_error",) if receipt.is_upstreams else ("upstream_cut", "timed_out", "refused")
    if receipt.ending == "error_event":
        return ("upstream_error", "upstream_cut", "timed_out")
    return ("completed", "client_gone", "upstream_error", "upstream_cut", "timed_out", "orphaned")


def _expected_of_complete(receipt: Receipt, book: PriceBook) -> dict[str, object]:
    counts = counts_of(receipt.usage) if receipt.usage is not None else TokenCounts()
    cost = rate(_fact(receipt, counts), book)
    expected: dict[str, object] = {
        "http_status": 200,
        "outcome": "completed",
        "usage_status": _usage_status(receipt),
        "message_id": receipt.message_id,
        "model_served": receipt.model_served,
        "cost_status": cost.cost_status,
        "cost_usd": None if cost.cost_status == "unpriced" else cost.cost_usd,
    }
    return expected | {name: getattr(counts, name) for name in COUNTS}


def _fact(receipt: Receipt, counts: TokenCounts) -> UsageRecorded:
    """What the client could have published itself: the price is worked out from its own account."""
    usage = receipt.usage or {}
    return UsageRecorded(
        request_id=RequestId(receipt.request_id),
        started_at=receipt.sent_at,
        finished_at=receipt.sent_at,
        edge_id=EdgeId(""),
        exchange_seq=0,
        source_id=SourceId(""),
        source_seq=0,
        attribution=Attribution(virtual_key_id=receipt.ask.virtual_key_id),
        operation=receipt.ask.operation,
        endpoint=receipt.ask.path,
        is_stream=receipt.ask.is_stream,
        outcome="completed",
        usage_status=_usage_status(receipt),
        http_status=200,
        model_requested=receipt.ask.model,
        model_served=receipt.model_served,
        tokens=counts,
        service_tier=usage.get("service_tier") or "",
        speed=usage.get("speed") or "",
        inference_geo=usage.get("inference_geo") or "",
        usage=msgspec.Raw(msgspec.json.encode(usage) if usage else b"null"),
    )


def _usage_status(receipt: Receipt) -> UsageStatus:
    """Only a message has usage."""
    return "final" if receipt.ask.operation == "messages" else "none"


def _differs_from_the_books(evidence: Evidence, by_id: Mapping[str, Row]) -> list[str]:
    """Add up by key and by tag what clients got in full: in Anthropic's books, and in ours."""
    books = {each.message_id: counts_of(msgspec.to_builtins(each.usage)) for each in evidence.served}
    complete = [each for each in evidence.receipts if each.ending == "complete" and each.message_id]
    faults = [
        f"Anthropic knows nothing of {_named(each)}" for each in complete if each.message_id not in books
    ]
    known = [(each, books[each.message_id]) for each in complete if each.message_id in books]
    mine = [by_id[each.request_id] for each, _ in known if each.request_id in by_id]
    sides = {
        "key": (
            totals((each.ask.virtual_key_id, counts) for each, counts in known),
            totals((row.virtual_key_id, counted(row)) for row in mine),
        ),
        "tag": (
            totals((each.ask.tag, counts) for each, counts in known),
            totals((row.tags[-1], counted(row)) for row in mine),
        ),
    }
    for what, (theirs, ours) in sides.items():
        faults += sums_that_differ(what, theirs, ours)
    for row in by_id.values():
        if row.usage_status == "final" and row.message_id and counted(row) != books.get(row.message_id):
            faults.append(
                f"{row.request_id}: Anthropic has {books.get(row.message_id)}, we have {counted(row)}"
            )
    return faults
