"""Builds usage records for the tests of rating: an ordinary answer, changed in what a test is about."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from schemas.attribution import Attribution
from schemas.ids import EdgeId, RequestId, SourceId, VirtualKeyId
from schemas.rated import RatedUsage
from schemas.usage import TokenCounts, UsageRecorded
from services.rating.book.file import load
from services.rating.exact import plain

BOOK = load()
TODAY = datetime(2026, 11, 22, 12, tzinfo=UTC)


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def usage(model: str = "claude-sonnet-5-5", **changes: Any) -> UsageRecorded:
    """A completed answer; keyword arguments are members of UsageRecorded, `tokens` a dict of counts."""
    fields: dict[str, Any] = {
        "request_id": RequestId("01940000-0000-7000-8000-000000000001"),
        "started_at": TODAY,
        "finished_at": TODAY,
        "edge_id": EdgeId("01940000-0000-7000-8000-0000000000ed"),
        "exchange_seq": 7,
        "source_id": SourceId("01940000-0000-7000-8000-0000000000aa"),
        "source_seq": 21,
        "attribution": Attribution(virtual_key_id=VirtualKeyId("vk_1")),
        "operation": "messages",
        "endpoint": "/v1/messages",
        "is_stream": False,
        "outcome": "completed",
        "usage_status": "final",
        "http_status": 200,
        "model_requested": model,
        "model_served": model,
        "stop_reason": "end_turn",
    }
    fields.update(changes)
    if isinstance(fields.get("tokens"), dict):
        fields["tokens"] = TokenCounts(**fields["tokens"])
    if isinstance(fields.get("usage"), dict):
        fields["usage"] = msgspec.Raw(msgspec.json.encode(fields["usage"]))
    return UsageRecorded(**fields)


def lines(rated: RatedUsage) -> list[tuple[str, str, int, str, str, str]]:
    """Show the lines as text, the price for a million units."""
    return [
        (
            line.model,
            line.dimension,
            line.units,
            f"{plain(line.unit_price_usd * 1_000_000):f}",
            str(line.multiplier),
            f"{line.amount_usd:f}",
        )
        for line in rated.cost_lines
    ]


def bill(rated: RatedUsage) -> tuple[str, Decimal]:
    return rated.cost_status, rated.cost_usd
