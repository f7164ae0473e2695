"""The only place where bytes become events and events become bytes; unknown members are ignored."""

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeVar

import msgspec

from schemas.batches import BatchCreated, BatchFact, BatchItems, BatchOwner, BatchSeen, BatchState
from schemas.dead_letters import DeadLetter
from schemas.edges import Heartbeat
from schemas.keys import KeyRecord, record_key
from schemas.price_books import PriceBookPublished
from schemas.rated import RatedUsage
from schemas.requests import RequestStarted
from schemas.responses import ResponseFinished
from schemas.usage import UsageRecorded

KindName = Literal[
    "request_started",
    "response_finished",
    "usage_recorded",
    "rated_usage",
    "heartbeat",
    "dead_letter",
    "price_book_published",
    "batch_fact",
    "batch_state",
    "batch_owner",
    "key_record",
]
Event = (
    RequestStarted
    | ResponseFinished
    | UsageRecorded
    | RatedUsage
    | Heartbeat
    | DeadLetter
    | PriceBookPublished
    | BatchFact
    | BatchState
    | BatchOwner
    | KeyRecord
)
AnyEvent = TypeVar("AnyEvent", bound=msgspec.Struct)

VERSIONS: Mapping[KindName, int] = {
    "request_started": 1,
    "response_finished": 1,
    "usage_recorded": 1,
    "rated_usage": 1,
    "heartbeat": 1,
    "dead_letter": 1,
    "price_book_published": 1,
    "batch_fact": 1,
    "batch_state": 1,
    "batch_owner": 1,
    "key_record": 1,
}
STRUCTS: Mapping[KindName, type[Event]] = {
    "request_started": RequestStarted,
    "response_finished": ResponseFinished,
    "usage_recorded": UsageRecorded,
    "rated_usage": RatedUsage,
    "heartbeat": Heartbeat,
    "dead_letter": DeadLetter,
    "price_book_published": PriceBookPublished,
    "batch_fact": BatchFact,
    "batch_state": BatchState,
    "batch_owner": BatchOwner,
    "key_record": KeyRecord,
}
_KINDS: Mapping[type[msgspec.Struct], KindName] = {struct: kind for kind, struct in STRUCTS.items()}
_TYPES = {kind: f"tollhouse.{kind}.v{version}".encode() for kind, version in VERSIONS.items()}
_DATASCHEMAS = {
    kind: f"urn:tollhouse:schema:{kind}:v{version}".encode() for kind, version in VERSIONS.items()
}
# The messages of msgspec that quote what stood in the record: a word that is not in a closed set.
_QUOTING = ("Invalid enum value", "Invalid value")
_ENCODER = msgspec.json.Encoder()
_DECODERS: Mapping[type[msgspec.Struct], msgspec.json.Decoder[msgspec.Struct]] = {
    struct: msgspec.json.Decoder(struct) for struct in STRUCTS.values()
}

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not the JSON asked for; the last two are no errors of its own."""

Headers = tuple[tuple[str, bytes], ...]
"""The headers of a Kafka record, in order."""


class Undecodable(ValueError):
    """The bytes are no event of the kind asked for; the text says at which member, never what stood there."""


class Envelope(NamedTuple):
    """What CloudEvents puts beside an event: its id, its subject, and who published it."""

    event_id: str
    subject: str
    source: str


def encode(event: Event) -> bytes:
    """Write an event as JSON: UTF-8, members in the order of the type, decimals as strings."""
    return _ENCODER.encode(event)


def decode(struct: type[AnyEvent], value: bytes | None) -> AnyEvent:
    """Read an event of one kind; Undecodable where the bytes do not hold one, a tombstone included."""
    if value is None:
        raise Undecodable("the record has no value")
    try:
        event = _DECODERS[struct].decode(value)
    except msgspec.MsgspecError as exc:
        raise Undecodable(_without_value(str(exc))) from exc
    except UnicodeDecodeError as exc:
        raise Undecodable("the record is not UTF-8") from exc
    except RecursionError as exc:
        raise Undecodable("the record is nested too deeply") from exc
    assert isinstance(event, struct)
    return event


def headers(event: Event, time_rfc3339: str, traceparent: str = "") -> Headers:
    """Write the CloudEvents 1.0 headers of Kafka's binary mode, and W3C trace context where there is one."""
    kind = _KINDS[type(event)]
    envelope = _envelope(event)
    trace = (("traceparent", traceparent.encode()),) if traceparent else ()
    return (
        ("ce_specversion", b"1.0"),
        ("ce_id", envelope.event_id.encode()),
        ("ce_type", _TYPES[kind]),
        ("ce_source", envelope.source.encode()),
        ("ce_time", time_rfc3339.encode()),
        ("ce_subject", envelope.subject.encode()),
        ("ce_dataschema", _DATASCHEMAS[kind]),
        ("content-type", b"application/json"),
        *trace,
    )


def key(event: Event) -> bytes | None:
    """Give the Kafka key of an event: what its topic is partitioned by (schemas/topics.yaml)."""
    if isinstance(event, RequestStarted | ResponseFinished):
        return event.request_id.encode()
    if isinstance(event, UsageRecorded):
        return event.attribution.virtual_key_id.encode()
    if isinstance(event, RatedUsage):
        return event.usage.attribution.virtual_key_id.encode()
    if isinstance(event, Heartbeat):
        return event.edge_id.encode()
    if isinstance(event, PriceBookPublished):
        return str(event.book_seq).encode()
    if isinstance(event, BatchFact | BatchState | BatchOwner):
        return event.batch_id.encode()
    if isinstance(event, KeyRecord):
        return record_key(event.record).encode()
    return event.key


def _without_value(message: str) -> str:
    quoting = next((each for each in _QUOTING if message.startswith(each)), None)
    if quoting is None:
        return message
    return f"{quoting} - at {message.rpartition(' - at ')[2]}"


def _envelope(event: Event) -> Envelope:
    if isinstance(event, RequestStarted):
        return Envelope(f"{event.request_id}/started", event.request_id, f"/edges/{event.edge_id}")
    if isinstance(event, ResponseFinished):
        return Envelope(f"{event.request_id}/finished", event.request_id, f"/edges/{event.edge_id}")
    if isinstance(event, UsageRecorded):
        return Envelope(event.request_id, event.request_id, f"/sources/{event.source_id}")
    if isinstance(event, RatedUsage):
        return Envelope(event.rated_id, event.usage.request_id, f"/rating/{event.price_book}")
    if isinstance(event, Heartbeat):
        millis = int(event.at.timestamp() * 1000)
        return Envelope(f"{event.edge_id}/{millis}", event.edge_id, f"/edges/{event.edge_id}")
    if isinstance(event, PriceBookPublished):
        return Envelope(f"{event.book_seq}/{event.book_hash}", event.label, "/rating")
    if isinstance(event, BatchFact | BatchState | BatchOwner):
        return _envelope_of_batch(event)
    if isinstance(event, KeyRecord):
        return Envelope(event.change_id, record_key(event.record), f"/edges/{event.edge_id}")
    place = f"{event.topic}/{event.partition}/{event.offset}"
    return Envelope(place, place, f"/stages/{event.stage}")


def _envelope_of_batch(event: BatchFact | BatchState | BatchOwner) -> Envelope:
    batch_id = event.batch_id
    if isinstance(event, BatchState):
        return Envelope(f"{batch_id}/{event.version}/{event.writer}", batch_id, "/batch_tracker")
    if isinstance(event, BatchOwner):
        return Envelope(f"{batch_id}/owner", batch_id, f"/edges/{event.edge_id}")
    source = f"/edges/{event.edge_id}" if event.edge_id else "/batch_tracker"
    return Envelope(f"{batch_id}/{_name_of(event)}", batch_id, source)


def _name_of(event: BatchFact) -> str:
    if isinstance(event.fact, BatchCreated):
        return "created"
    if isinstance(event.fact, BatchItems):
        return f"items/{event.fact.chunk}"
    if isinstance(event.fact, BatchSeen):
        return f"seen/{int(event.at.timestamp() * 1000)}"
    return "deleted"
