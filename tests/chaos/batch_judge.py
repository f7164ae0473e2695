"""Holds items of batches, as clients made and Anthropic ended them, against what is booked; pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from schemas.attribution import Attribution
from schemas.ids import EdgeId, SourceId, VirtualKeyId, batch_item_id
from schemas.usage import TokenCounts, UsageRecorded
from services.local.anthropic.books import Served
from services.rating.book.price_book import PriceBook
from services.rating.pricing import rate
from tests.chaos.batch_traffic import BatchCall, Booked, Item, batch_id_of, is_creation
from tests.chaos.evidence import (
    BATCH_ITEM,
    COUNTS,
    BatchRow,
    EndedBatch,
    Evidence,
    Judgement,
    Row,
    counted,
    counts_of,
    sums_that_differ,
    totals,
)
from tests.chaos.traffic import Receipt

UNATTRIBUTED = Booked(virtual_key_id="unattributed")

ItemKey = tuple[str, str]
"""A batch's id and a custom_id."""


class _Made(NamedTuple):
    """Who asked for an item, and for what."""

    receipt: Receipt
    item: Item

    @property
    def call(self) -> BatchCall:
        assert isinstance(self.receipt.ask, BatchCall)
        return self.receipt.ask


class _Expected(NamedTuple):
    """How one item must be booked: by its columns."""

    booked: Booked
    counts: TokenCounts
    columns: Mapping[str, object]


def judge_batches(evidence: Evidence, book: PriceBook) -> Judgement:
    """Say which batches and items are missing, which are there twice, and which are not as they must be."""
    made = {
        item.custom_id: _Made(receipt, item)
        for receipt in evidence.receipts
        if is_creation(receipt)
        for item in receipt.ask.items
    }
    found: dict[ItemKey, list[Row]] = defaultdict(list)
    for row in evidence.rows:
        if row.operation == BATCH_ITEM:
            found[row.batch_id, row.batch_custom_id].append(row)
    states = {row.batch_id: row for row in evidence.batches}
    expected = _expected(evidence, made, states, book)
    return Judgement(
        [*_not_booked(evidence.ended, states), *(f"item {key}" for key in expected if key not in found)],
        [
            *_twice("batch", (row.batch_id for row in evidence.batches)),
            *_twice("batches made by one call", _makers(evidence.ended, made)),
            *(f"item {key} x{len(rows)}" for key, rows in found.items() if len(rows) > 1),
        ],
        [
            *_never_made(evidence, made),
            *(f"item {key} is booked, and is no item of Anthropic's" for key in found if key not in expected),
            *(
                fault
                for key, each in expected.items()
                for row in found.get(key, [])
                for fault in _faults(key, each, row)
            ),
            *_states_that_differ(evidence, made, states, expected),
            *_sums(expected, found),
            *_readings_that_differ(evidence),
        ],
    )


def _expected(
    evidence: Evidence, made: Mapping[str, _Made], states: Mapping[str, BatchRow], book: PriceBook
) -> dict[ItemKey, _Expected]:
    """Work every item out that Anthropic has, from what was asked and from Anthropic's own books."""
    served = {(each.batch_id, each.custom_id): each for each in evidence.served if each.batch_id}
    expected: dict[ItemKey, _Expected] = {}
    for batch in evidence.ended:
        for custom_id, outcome in batch.outcomes.items():
            maker = made.get(custom_id)
            if maker is None:
                continue
            booked = maker.call.booked(maker.item)
            if _is_nobodys(maker.receipt, states.get(batch.batch_id)):
                booked = UNATTRIBUTED
            key = (batch.batch_id, custom_id)
            expected[key] = _expected_item(key, outcome, booked, served.get(key), maker.receipt, book)
    return expected


def _is_nobodys(receipt: Receipt, state: BatchRow | None) -> bool:
    """Where the answer to a creation was lost on its way to the edge, nobody can know whose the batch is."""
    return receipt.ending != "complete" and state is not None and state.is_adopted


def _expected_item(
    key: ItemKey, outcome: str, booked: Booked, served: Served | None, receipt: Receipt, book: PriceBook
) -> _Expected:
    usage = msgspec.to_builtins(served.usage) if served is not None else {}
    counts = counts_of(usage) if usage else TokenCounts()
    fact = UsageRecorded(
        request_id=batch_item_id(*key),
        started_at=receipt.sent_at,
        finished_at=receipt.sent_at,
        edge_id=EdgeId(""),
        exchange_seq=0,
        source_id=SourceId(key[0]),
        source_seq=0,
        attribution=Attribution(virtual_key_id=VirtualKeyId(booked.virtual_key_id)),
        operation=BATCH_ITEM,
        endpoint="/v1/messages/batches",
        is_stream=False,
        outcome=outcome,
        usage_status="final" if usage else "none",
        http_status=200 if outcome == "succeeded" else 0,
        model_served=served.model if served is not None else "",
        tokens=counts,
        service_tier=usage.get("service_tier") or "",
        inference_geo=usage.get("inference_geo") or "",
        usage=msgspec.Raw(msgspec.json.encode(usage) if usage else b"null"),
    )
    cost = rate(fact, book)
    columns: dict[str, object] = {
        "request_id": fact.request_id,
        **booked._asdict(),
        "tags": list(booked.tags),
        "is_stream": False,
        "outcome": outcome,
        "usage_status": fact.usage_status,
        "http_status": fact.http_status,
        "model_served": fact.model_served,
        "message_id": served.message_id if served is not None else "",
        "cost_status": cost.cost_status,
        "cost_usd": None if cost.cost_status == "unpriced" else cost.cost_usd,
    }
    return _Expected(booked, counts, columns | {name: getattr(counts, name) for name in COUNTS})


def _faults(key: ItemKey, expected: _Expected, row: Row) -> list[str]:
    found = row._asdict() | {"tags": list(row.tags), "metadata": dict(row.metadata)}
    differing = {name: (each, found[name]) for name, each in expected.columns.items() if each != found[name]}
    return [f"item {key}: (expected, found) {differing}"] if differing else []


def _not_booked(ended: Sequence[EndedBatch], states: Mapping[str, BatchRow]) -> list[str]:
    """Every batch that Anthropic has must have come to its end here."""
    phases = {each.batch_id: states[each.batch_id].phase for each in ended if each.batch_id in states}
    return [
        f"batch {each.batch_id}, which is {phases.get(each.batch_id, 'not known')}"
        for each in ended
        if phases.get(each.batch_id) != "booked"
    ]


def _states_that_differ(
    evidence: Evidence,
    made: Mapping[str, _Made],
    states: Mapping[str, BatchRow],
    expected: Mapping[ItemKey, _Expected],
) -> list[str]:
    """Hold what a batch's own row says, its sum among it, against its items."""
    costs: dict[str, Decimal] = defaultdict(Decimal)
    for (batch_id, _), each in expected.items():
        costs[batch_id] += each.columns["cost_usd"] or 0
    faults: list[str] = []
    for batch in evidence.ended:
        state, maker = states.get(batch.batch_id), made.get(next(iter(batch.outcomes)))
        if state is None or maker is None:
            continue
        ends = Counter(batch.outcomes.values())
        items = len(batch.outcomes)
        wanted: dict[str, object] = {
            "requests": items,
            "items_booked": items,
            "items": items,
            **{name: ends[name] for name in ("succeeded", "errored", "canceled", "expired")},
            "cost_usd": costs[batch.batch_id],
        }
        key = maker.call.key
        if maker.receipt.ending == "complete":
            wanted |= {"request_id": maker.receipt.request_id, "is_adopted": False}
        if not _is_nobodys(maker.receipt, state):
            wanted |= {"virtual_key_id": key.virtual_key_id, "key_alias": key.alias, "team_id": key.team_id}
        has = state._asdict() | {"cost_usd": state.cost_usd or 0}
        differing = {name: (each, has[name]) for name, each in wanted.items() if each != has[name]}
        if differing:
            faults.append(f"batch {batch.batch_id}: (expected, found) {differing}")
    return faults


def _never_made(evidence: Evidence, made: Mapping[str, _Made]) -> list[str]:
    """Name batches that only one side knows: a client's, or Anthropic's."""
    ids = {each.batch_id for each in evidence.ended}
    told = [batch_id_of(each) for each in evidence.receipts if is_creation(each) and each.answer]
    unknown = [f"Anthropic knows nothing of batch {each}" for each in told if each not in ids]
    nobodys = [each.batch_id for each in evidence.ended if not each.outcomes.keys() & made.keys()]
    return unknown + [f"nobody has asked for batch {each}" for each in nobodys]


def _makers(ended: Sequence[EndedBatch], made: Mapping[str, _Made]) -> list[str]:
    firsts = [made.get(next(iter(each.outcomes))) for each in ended]
    return [each.call.name for each in firsts if each is not None]


def _sums(expected: Mapping[ItemKey, _Expected], found: Mapping[ItemKey, Sequence[Row]]) -> list[str]:
    """Add items up by key and by tag: those of Anthropic's books, and those of ours."""
    theirs, rows = list(expected.values()), [row for rows in found.values() for row in rows]
    return [
        *sums_that_differ(
            "items of key",
            totals((each.booked.virtual_key_id, each.counts) for each in theirs),
            totals((row.virtual_key_id, counted(row)) for row in rows),
        ),
        *sums_that_differ(
            "items of tag",
            totals((tag, each.counts) for each in theirs for tag in each.booked.tags),
            totals((tag, counted(row)) for row in rows for tag in row.tags),
        ),
    ]


def _readings_that_differ(evidence: Evidence) -> list[str]:
    """Hold what clients have downloaded against Anthropic's books: nothing may be lost on the way down."""
    outcomes = {each.batch_id: each.outcomes for each in evidence.ended}
    faults: list[str] = []
    for receipt in evidence.receipts:
        call = receipt.ask
        if not isinstance(call, BatchCall) or call.action != "results" or receipt.ending != "complete":
            continue
        lines = [msgspec.json.decode(line) for line in receipt.answer.splitlines()]
        read = {line["custom_id"]: line["result"]["type"] for line in lines}
        if len(read) != len(lines) or read != outcomes.get(call.batch_id):
            faults.append(f"results of batch {call.batch_id}, as read by {receipt.request_id}")
    return faults


def _twice(what: str, names: Iterable[str]) -> list[str]:
    return [f"{what} {name} x{count}" for name, count in Counter(names).items() if count > 1]
