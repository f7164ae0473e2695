"""Holds what clients and Anthropic have against what Tollhouse booked; pure, and knows no process."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import msgspec

from schemas.attribution import Attribution
from schemas.ids import EdgeId, RequestId, SourceId
from schemas.usage import TokenCounts, UsageRecorded
from services.edge.identity import own_key_id
from services.local.anthropic.books import Served
from services.rating.book.price_book import PriceBook
from services.rating.pricing import rate
from tests.chaos.traffic import Receipt

# The figures of a row that a client's receipt decides.
COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "thinking_tokens",
)
FINDINGS_SHOWN_MAX = 20
UNPRICED = ("unpriced",)


class Row(NamedTuple):
    """One row of tollhouse.usage, as far as it is judged; the order is that of `ROW_SQL`."""

    request_id: str
    edge_id: str
    exchange_seq: int
    virtual_key_id: str
    tags: Sequence[str]
    end_user_id: str
    operation: str
    is_stream: bool
    model_served: str
    message_id: str
    http_status: int
    outcome: str
    usage_status: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    thinking_tokens: int
    cost_status: str
    cost_usd: Decimal | None


ROW_SQL = "SELECT toString(request_id), {} FROM tollhouse.usage".format(", ".join(Row._fields[1:]))


class Totals(NamedTuple):
    """What one key, or one tag, used and cost."""

    exchanges: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int


class Evidence(NamedTuple):
    """Everything that is known at the end of a run."""

    receipts: Sequence[Receipt]
    served: Sequence[Served]
    rows: Sequence[Row]
    requests: Sequence[str]  # request ids of tollhouse.requests, and of tollhouse.responses
    responses: Sequence[str]
    last_heard: Mapping[str, int]  # the exchange_seq of each edge's last heartbeat


class Judgement(NamedTuple):
    """What was found; everything empty is the proof."""

    missing: Sequence[str]
    doubled: Sequence[str]
    wrong: Sequence[str]

    @property
    def is_clean(self) -> bool:
        return not (self.missing or self.doubled or self.wrong)

    def __str__(self) -> str:
        lines = [f"missing {len(self.missing)}, doubled {len(self.doubled)}, wrong {len(self.wrong)}"]
        for name in self._fields:
            lines += [f"  {name}: {each}" for each in getattr(self, name)[:FINDINGS_SHOWN_MAX]]
        return "\n".join(lines)


def judge(evidence: Evidence, book: PriceBook) -> Judgement:
    """Say what is missing, what is there twice, and what is there but not right."""
    by_id = {row.request_id: row for row in evidence.rows}
    owed = [each for each in evidence.receipts if each.request_id and _is_on_the_record(each)]
    missing = [f"no usage of {_named(each)}" for each in owed if each.request_id not in by_id]
    missing += _gaps(evidence)
    known = set(by_id)
    for view, ids in (("requests", evidence.requests), ("responses", evidence.responses)):
        missing += [f"{view} lacks {each}" for each in sorted(known - set(ids))]
        missing += [f"usage lacks {each} of {view}" for each in sorted(set(ids) - known)]
    pairs = [(each, by_id[each.request_id]) for each in owed if each.request_id in by_id]
    wrong = [fault for receipt, row in pairs for fault in _faults(receipt, row, book)]
    wrong += _differs_from_the_books(evidence, by_id)
    return Judgement(missing, _doubled(evidence), wrong)


def totals(keyed: Iterable[tuple[str, TokenCounts]]) -> dict[str, Totals]:
    """Add token counts up by key."""
    sums: dict[str, Totals] = defaultdict(lambda: Totals(0, 0, 0, 0, 0))
    for key, counts in keyed:
        writes = counts.cache_write_5m_tokens + counts.cache_write_1h_tokens
        more = (1, counts.input_tokens, counts.output_tokens, counts.cache_read_tokens, writes)
        sums[key] = Totals(*(had + new for had, new in zip(sums[key], more, strict=True)))
    return dict(sums)


def counts_of(usage: Mapping) -> TokenCounts:
    """Read Anthropic's usage object, independently of the edge."""
    creation, details = usage.get("cache_creation") or {}, usage.get("output_tokens_details") or {}
    written = usage.get("cache_creation_input_tokens") or 0
    one_hour = creation.get("ephemeral_1h_input_tokens") or 0
    return TokenCounts(
        input_tokens=usage["input_tokens"],
        output_tokens=usage["output_tokens"],
        cache_read_tokens=usage.get("cache_read_input_tokens") or 0,
        cache_write_5m_tokens=written - one_hour,
        cache_write_1h_tokens=one_hour,
        thinking_tokens=details.get("thinking_tokens") or 0,
    )


def _is_on_the_record(receipt: Receipt) -> bool:
    """Everything that got an answer, but what the gateway turned away before it began."""
    return not (receipt.ending == "error" and not receipt.is_upstreams and receipt.status == 503)


def _named(receipt: Receipt) -> str:
    return f"{receipt.request_id} ({receipt.ending} {receipt.status}, {receipt.message_id}, {receipt.edge})"


def _gaps(evidence: Evidence) -> list[str]:
    """Each edge numbers its exchanges from 1: every number up to the highest that was heard of has a row."""
    found: dict[str, set[int]] = defaultdict(set)
    for row in evidence.rows:
        found[row.edge_id].add(row.exchange_seq)
    gaps: list[str] = []
    for edge_id in sorted(found.keys() | evidence.last_heard.keys()):
        highest = max(found[edge_id] | {evidence.last_heard.get(edge_id, 0)})
        gone = sorted(set(range(1, highest + 1)) - found[edge_id])
        gaps += [f"exchange {seq} of {highest} of edge {edge_id}" for seq in gone]
    return gaps


def _doubled(evidence: Evidence) -> list[str]:
    doubled: list[str] = []
    counted = {
        "usage": [row.request_id for row in evidence.rows],
        "requests": evidence.requests,
        "responses": evidence.responses,
        "usage of a message": [row.message_id for row in evidence.rows if row.message_id],
        "exchange": [f"{row.edge_id}/{row.exchange_seq}" for row in evidence.rows],
    }
    for what, ids in counted.items():
        doubled += [f"{what} {each} x{count}" for each, count in Counter(ids).items() if count > 1]
    return doubled


def _faults(receipt: Receipt, row: Row, book: PriceBook) -> list[str]:
    """Compare one row with what its client has of the exchange."""
    expected: dict[str, object] = {
        "virtual_key_id": own_key_id(receipt.ask.key, ""),
        "tags": ["chaos", receipt.ask.tag],
        "end_user_id": receipt.ask.end_user,
        "operation": "count_tokens" if receipt.ask.is_count else "messages",
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
    is_count = receipt.ask.is_count
    counts = counts_of(receipt.usage) if receipt.usage is not None else TokenCounts()
    cost = rate(_fact(receipt, counts), book)
    expected: dict[str, object] = {
        "http_status": 200,
        "outcome": "completed",
        "usage_status": "none" if is_count else "final",
        "message_id": receipt.message_id,
        "model_served": receipt.model_served,
        "cost_status": cost.cost_status,
        "cost_usd": None if cost.cost_status in UNPRICED else cost.cost_usd,
    }
    return expected | {name: getattr(counts, name) for name in COUNTS}


def _fact(receipt: Receipt, counts: TokenCounts) -> UsageRecorded:
    """What the client could have published itself: the price is worked out from its own account."""
    usage = receipt.usage or {}
    sent_at: datetime = receipt.sent_at
    return UsageRecorded(
        request_id=RequestId(receipt.request_id),
        started_at=sent_at,
        finished_at=sent_at,
        edge_id=EdgeId(""),
        exchange_seq=0,
        source_id=SourceId(""),
        source_seq=0,
        attribution=Attribution(virtual_key_id=own_key_id(receipt.ask.key, "")),
        operation="count_tokens" if receipt.ask.is_count else "messages",
        endpoint=receipt.ask.path,
        is_stream=receipt.ask.is_stream,
        outcome="completed",
        usage_status="none" if receipt.ask.is_count else "final",
        http_status=200,
        model_requested=receipt.ask.model,
        model_served=receipt.model_served,
        tokens=counts,
        service_tier=usage.get("service_tier") or "",
        speed=usage.get("speed") or "",
        inference_geo=usage.get("inference_geo") or "",
        usage=msgspec.Raw(msgspec.json.encode(usage) if usage else b"null"),
    )


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
            totals((own_key_id(each.ask.key, ""), counts) for each, counts in known),
            totals((row.virtual_key_id, _counted(row)) for row in mine),
        ),
        "tag": (
            totals((each.ask.tag, counts) for each, counts in known),
            totals((row.tags[-1], _counted(row)) for row in mine),
        ),
    }
    for what, (theirs, ours) in sides.items():
        for name in sorted(theirs.keys() | ours.keys()):
            if theirs.get(name) != ours.get(name):
                faults.append(f"{what} {name}: Anthropic has {theirs.get(name)}, we have {ours.get(name)}")
    for row in evidence.rows:
        if row.usage_status == "final" and row.message_id and _counted(row) != books.get(row.message_id):
            faults.append(
                f"{row.request_id}: Anthropic has {books.get(row.message_id)}, we have {_counted(row)}"
            )
    return faults


def _counted(row: Row) -> TokenCounts:
    return TokenCounts(**{name: getattr(row, name) for name in COUNTS})
