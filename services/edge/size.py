"""Keeps an event below what Kafka takes: leaves out what may be left out, in one order; holds no I/O."""

import msgspec

from schemas import codec
from schemas.codec import Event
from schemas.requests import RequestStarted
from schemas.usage import UsageRecorded
from services.runtime import metrics

# Half of a topic's max.message.bytes: rating adds to an event, and a dead letter holds it in base64.
EVENT_BYTES_MAX = 512 * 1024


def fitted(event: Event) -> tuple[Event, bytes]:
    """Give the event as it may be published, and as JSON.

    Beyond EVENT_BYTES_MAX go Anthropic's own usage object, then the caller's metadata, then its tags, until
    the rest fits; `cut` names them. Everything else in an event is short already, where it comes from.
    """
    value = codec.encode(event)
    if len(value) <= EVENT_BYTES_MAX or not isinstance(event, RequestStarted | UsageRecorded):
        return event, value
    for cut_down in (_without_usage, _without_metadata, _without_tags):
        event = cut_down(event)
        value = codec.encode(event)
        if len(value) <= EVENT_BYTES_MAX:
            break
    return event, value


def _without_usage(event: RequestStarted | UsageRecorded) -> RequestStarted | UsageRecorded:
    if not isinstance(event, UsageRecorded):
        return event
    return msgspec.structs.replace(event, usage=msgspec.Raw(b"null"), cut=_named(event, "usage"))


def _without_metadata(event: RequestStarted | UsageRecorded) -> RequestStarted | UsageRecorded:
    attribution = msgspec.structs.replace(event.attribution, metadata={})
    return msgspec.structs.replace(event, attribution=attribution, cut=_named(event, "metadata"))


def _without_tags(event: RequestStarted | UsageRecorded) -> RequestStarted | UsageRecorded:
    attribution = msgspec.structs.replace(event.attribution, tags=())
    return msgspec.structs.replace(event, attribution=attribution, cut=_named(event, "tags"))


def _named(event: RequestStarted | UsageRecorded, what: str) -> tuple[str, ...]:
    metrics.edge_events_cut.labels(what).inc()
    return tuple(dict.fromkeys((*event.cut, what)))
