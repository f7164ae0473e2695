"""What is known at the end of a run, and how a verdict on it looks; knows no process, and judges nothing."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from schemas.usage import TokenCounts
from services.local.anthropic.books import Served
from tests.chaos.traffic import Receipt

# The figures of a row that a client's receipt, or Anthropic's books, decide.
COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "thinking_tokens",
)
FINDINGS_SHOWN_MAX = 20
BATCH_ITEM = "batch_item"


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
    key_alias: str = ""
    team_id: str = ""
    session_id: str = ""
    metadata: Mapping[str, str] = {}
    batch_id: str = ""
    batch_custom_id: str = ""


ROW_SQL = "SELECT toString(request_id), {} FROM tollhouse.usage".format(", ".join(Row._fields[1:]))


class BatchRow(NamedTuple):
    """One row of tollhouse.batches, as far as it is judged; the order is that of `BATCH_ROW_SQL`."""

    batch_id: str
    phase: str
    requests: int
    items_booked: int
    items: int
    succeeded: int
    errored: int
    canceled: int
    expired: int
    virtual_key_id: str
    key_alias: str
    team_id: str
    request_id: str
    is_adopted: bool
    cost_usd: Decimal | None
    error: str


BATCH_ROW_SQL = "SELECT {} FROM tollhouse.batches".format(", ".join(BatchRow._fields))


class EndedBatch(NamedTuple):
    """A batch as Anthropic has it: how each item ended, by its custom_id."""

    batch_id: str
    outcomes: Mapping[str, str]


class Totals(NamedTuple):
    """What one key, or one tag, used."""

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
    ended: Sequence[EndedBatch] = ()
    batches: Sequence[BatchRow] = ()


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


def totals(keyed: Iterable[tuple[str, TokenCounts]]) -> dict[str, Totals]:
    """Add token counts up by key."""
    sums: dict[str, Totals] = defaultdict(lambda: Totals(0, 0, 0, 0, 0))
    for key, counts in keyed:
        writes = counts.cache_write_5m_tokens + counts.cache_write_1h_tokens
        more = (1, counts.input_tokens, counts.output_tokens, counts.cache_read_tokens, writes)
        sums[key] = Totals(*(had + new for had, new in zip(sums[key], more, strict=True)))
    return dict(sums)


def sums_that_differ(what: str, theirs: Mapping[str, Totals], ours: Mapping[str, Totals]) -> list[str]:
    """Name every key, or tag, of which Anthropic's books and ours do not say the same."""
    return [
        f"{what} {name}: Anthropic has {theirs.get(name)}, we have {ours.get(name)}"
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name) != ours.get(name)
    ]


def counts_of(usage: Mapping) -> TokenCounts:
    """Read Anthropic's usage object, independently of edge and batch tracker."""
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


def counted(row: Row) -> TokenCounts:
    """Give the figures of a row."""
    return TokenCounts(**{name: getattr(row, name) for name in COUNTS})
