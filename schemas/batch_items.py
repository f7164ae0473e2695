"""Decides what a line of a batch's results comes to as usage; the same line is always the same event."""

from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from schemas.attribution import Attribution
from schemas.batches import BatchItem
from schemas.ids import EdgeId, SourceId, batch_item_id
from schemas.lenient_json import decoded
from schemas.usage import UsageRecorded
from schemas.usage_rules import Reading, reading_of, text

ENDPOINT = "/v1/messages/batches"
OK = 200
# What a line is booked as that is no result: it may have been billed, so it may not count as free.
UNREADABLE_RESULT = "unreadable_result"

ItemOutcome = Literal["succeeded", "errored", "canceled", "expired"]
"""How an item ended: Anthropic's words, and outcomes of ours."""


class BatchOfItems(NamedTuple):
    """What every item of a batch shares: its times, its creator, and its model where all ask for one."""

    batch_id: str
    created_at: datetime
    ended_at: datetime
    attribution: Attribution
    models: tuple[str, ...] = ()


class ItemResult(NamedTuple):
    """What one line says: which item, how it ended, what it used."""

    custom_id: str
    outcome: ItemOutcome
    reading: Reading = Reading()
    error_type: str = ""
    upstream_request_id: str = ""


class _Message(msgspec.Struct):
    id: str = ""
    model: str = ""
    stop_reason: str | None = None
    usage: dict[str, object] | None = None


class _Error(msgspec.Struct):
    type: str = ""


class _ErrorResponse(msgspec.Struct):
    error: _Error | None = None
    request_id: str | None = None


class _Result(msgspec.Struct):
    type: ItemOutcome
    message: _Message | None = None
    error: _ErrorResponse | None = None


class _Line(msgspec.Struct):
    custom_id: str
    result: _Result


_LINE = msgspec.json.Decoder(_Line)


def read_line(line: bytes) -> ItemResult | None:
    """Read one line of a results file; None where it is no result, also of a kind that is not known yet."""
    read = decoded(_LINE, line)
    if read is None or not read.custom_id:
        return None
    result = read.result
    if result.type == "succeeded":
        return None if result.message is None else _succeeded(read.custom_id, result.message)
    answer = result.error or _ErrorResponse()
    error = answer.error or _Error()
    return ItemResult(
        custom_id=read.custom_id,
        outcome=result.type,
        error_type=text(error.type),
        upstream_request_id=text(answer.request_id),
    )


def usage_of_item(
    batch: BatchOfItems, line_number: int, result: ItemResult, item: BatchItem
) -> UsageRecorded:
    """Write the usage event of an item; `line_number` counts from 1, and `item` is its own attribution."""
    reading = result.reading
    return UsageRecorded(
        request_id=batch_item_id(batch.batch_id, result.custom_id),
        started_at=batch.created_at,
        finished_at=batch.ended_at,
        edge_id=EdgeId(""),
        exchange_seq=0,
        source_id=SourceId(batch.batch_id),
        source_seq=line_number,
        attribution=attribution_of_item(batch.attribution, item),
        operation="batch_item",
        endpoint=ENDPOINT,
        is_stream=False,
        outcome=result.outcome,
        usage_status=reading.usage_status,
        http_status=OK if result.outcome == "succeeded" else 0,
        model_requested=batch.models[0] if len(batch.models) == 1 else "",
        model_served=reading.model_served,
        message_id=reading.message_id,
        upstream_request_id=result.upstream_request_id,
        batch_id=batch.batch_id,
        batch_custom_id=text(result.custom_id),
        error_type=result.error_type,
        stop_reason=reading.stop_reason,
        tokens=reading.tokens,
        service_tier=reading.service_tier,
        speed=reading.speed,
        inference_geo=reading.inference_geo,
        usage=reading.usage,
        estimated_dimensions=reading.estimated_dimensions,
    )


def usage_of_unreadable(batch: BatchOfItems, line_number: int) -> UsageRecorded:
    """Write the usage event of a line that is no result: without usage, and so without a price.

    No item can have its id: a custom_id has no space.
    """
    result = ItemResult(f"line {line_number}", "succeeded", error_type=UNREADABLE_RESULT)
    return usage_of_item(batch, line_number, result, BatchItem(custom_id=result.custom_id))


def attribution_of_item(creator: Attribution, item: BatchItem) -> Attribution:
    """Lay an item's own attribution over its creator's; its tags come behind the creator's."""
    return msgspec.structs.replace(
        creator,
        end_user_id=item.end_user_id or creator.end_user_id,
        session_id=item.session_id or creator.session_id,
        tags=tuple(dict.fromkeys((*creator.tags, *item.tags))),
        metadata={**creator.metadata, **item.metadata},
    )


def _succeeded(custom_id: str, message: _Message) -> ItemResult:
    reading = msgspec.structs.replace(
        reading_of(message.usage or {}, "none"),
        model_served=text(message.model),
        message_id=text(message.id),
        stop_reason=text(message.stop_reason),
    )
    return ItemResult(custom_id, "succeeded", reading)
