"""Turns usage records into rated records, each by itself; holds no state, so a replay changes nothing."""

from collections.abc import Sequence

import msgspec

from schemas import codec
from schemas.topics import RATED, USAGE
from schemas.usage import UsageRecorded
from services.rating.errors import ImplausibleUsage
from services.rating.price_book import PriceBook
from services.rating.pricing import Verdict, judge
from services.runtime import metrics
from services.runtime.records import ConsumedRecord, DeadRecord, OutgoingRecord, Processed


class RatingStage:
    """The stage that prices usage at one edition of the price book."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book

    @property
    def name(self) -> str:
        """The stage's name."""
        return "rating"

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics to read."""
        return (USAGE,)

    async def process(self, records: Sequence[ConsumedRecord]) -> Processed:
        """Rate every record; what cannot be a usage is dead, what has no price is rated as unpriced."""
        outgoing: list[OutgoingRecord] = []
        dead: list[DeadRecord] = []
        for record in records:
            try:
                verdict = judge(codec.decode(UsageRecorded, record.value), self._book)
            except (codec.Undecodable, ImplausibleUsage) as exc:
                dead.append(DeadRecord(record, type(exc).__name__, str(exc)))
                continue
            _count(verdict)
            outgoing.append(_outgoing(verdict, record))
        return Processed(outgoing, dead)


def _outgoing(verdict: Verdict, source: ConsumedRecord) -> OutgoingRecord:
    rated = verdict.rated
    started_at: str = msgspec.to_builtins(rated.usage.started_at)
    return OutgoingRecord(
        RATED,
        codec.key(rated),
        codec.encode(rated),
        codec.headers(rated, started_at, _traceparent(source)),
    )


def _traceparent(source: ConsumedRecord) -> str:
    """Pass the trace on to which the exchange belongs, if it has one."""
    for name, value in source.headers:
        if name == "traceparent" and value.isascii():
            return value.decode("ascii")
    return ""


def _count(verdict: Verdict) -> None:
    metrics.rating_usages.labels(verdict.rated.cost_status).inc()
    if verdict.reason is not None:
        metrics.rating_unpriced.labels(verdict.reason).inc()
