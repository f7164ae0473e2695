"""Turns usage records into rated records, each by itself; holds no state, so a replay changes nothing."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from schemas import codec
from schemas.rated import RatedUsage
from schemas.topics import RATED, USAGE
from schemas.usage import UsageRecorded
from services.rating.book.price_book import PriceBook
from services.rating.end_users import EndUserMetrics
from services.rating.errors import ImplausibleUsage
from services.rating.pricing import Verdict, judge
from services.runtime import metrics
from services.runtime.records import ConsumedRecord, DeadRecord, OutgoingRecord, Processed

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RatingStage:
    """The stage that prices usage at one edition of the price book, once that is published.

    With `end_users` it names on metrics who costs most.
    """

    def __init__(self, book: PriceBook, end_users: EndUserMetrics | None = None) -> None:
        self._book = book
        self._end_users = end_users
        self._published_at: datetime | None = None

    def begin(self, published_at: datetime) -> None:
        """Say when the book was published: nothing that it prices was booked before."""
        self._published_at = published_at

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
        published_at = self._published_at
        assert published_at is not None, "no usage is priced by a book that is not published"
        outgoing: list[OutgoingRecord] = []
        dead: list[DeadRecord] = []
        for record in records:
            try:
                verdict = judge(codec.decode(UsageRecorded, record.value), self._book)
            except (codec.Undecodable, ImplausibleUsage) as exc:
                dead.append(DeadRecord(record, type(exc).__name__, str(exc)))
                continue
            self._count(verdict)
            outgoing.append(_outgoing(_booked(verdict.rated, record, published_at), record))
        return Processed(outgoing, dead)

    def _count(self, verdict: Verdict) -> None:
        rated = verdict.rated
        metrics.rating_usages.labels(rated.cost_status).inc()
        if verdict.reason is not None:
            metrics.rating_unpriced.labels(verdict.reason).inc()
        if self._end_users is not None:
            self._end_users.count(rated.usage.attribution.end_user_id, rated.cost_usd)


def _booked(rated: RatedUsage, source: ConsumedRecord, published_at: datetime) -> RatedUsage:
    """Say when the cost came to stand, by the broker's clock: a replay says the same."""
    arrived_at = _EPOCH + timedelta(milliseconds=source.timestamp_ms)
    return msgspec.structs.replace(rated, booked_at=max(arrived_at, published_at))


def _outgoing(rated: RatedUsage, source: ConsumedRecord) -> OutgoingRecord:
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
