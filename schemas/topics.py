"""The typed view of topics.yaml: which topics exist, how they are keyed, kept and cleaned up."""

from functools import cache
from importlib import resources
from typing import Literal

import msgspec

from schemas.codec import KindName

DLQ_SUFFIX = ".dlq"
DLQ_RETENTION_DAYS = 30
DAY_MS = 24 * 3600 * 1000
# As retention_days: what a later day still decides by is never deleted.
FOREVER_DAYS = -1
# A dead letter holds the original value in base64 (4/3) beside its place and error.
DLQ_MESSAGE_BYTES_RATIO = 2


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """One topic as it must exist on the broker, replication aside."""

    name: str
    kind: KindName
    key: str
    partitions: int
    retention_days: int
    max_message_bytes: int
    cleanup: Literal["delete", "compact"] = "delete"
    min_compaction_lag_ms: int = 0
    dlq: bool = False

    @property
    def retention_ms(self) -> int:
        """How long a record is kept, in Kafka's words: -1 is for ever."""
        return -1 if self.retention_days == FOREVER_DAYS else self.retention_days * DAY_MS

    def configs(self) -> dict[str, str]:
        """Give the topic-level settings by Kafka's names; the log keeps its own time beside the event's."""
        settings = {
            "cleanup.policy": self.cleanup,
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(self.max_message_bytes),
            "compression.type": "producer",
        }
        if self.cleanup == "delete":
            settings["retention.ms"] = str(self.retention_ms)
        else:
            settings["min.compaction.lag.ms"] = str(self.min_compaction_lag_ms)
        return settings


class _Defaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    max_message_bytes: int
    retention_days: int


class _Declared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    kind: KindName
    key: str
    partitions: int
    retention_days: int | None = None
    max_message_bytes: int | None = None
    cleanup: Literal["delete", "compact"] = "delete"
    min_compaction_lag_ms: int = 0
    dlq: bool = False


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    defaults: _Defaults
    topics: tuple[_Declared, ...]


REQUESTS = "gateway.requests.v1"
RESPONSES = "gateway.responses.v1"
USAGE = "gateway.usage.v1"
RATED = "gateway.rated.v1"
EDGES = "gateway.edges.v1"
PRICE_BOOKS = "gateway.price_books.v1"
BATCH_FACTS = "gateway.batch_facts.v1"
BATCHES = "gateway.batches.v1"
BATCH_OWNERS = "gateway.batch_owners.v1"
KEYS = "gateway.keys.v1"


@cache
def all_topics() -> tuple[Topic, ...]:
    """Read topics.yaml; the dead-letter topics come right behind the topics they serve."""
    declared = msgspec.yaml.decode(
        resources.files("schemas").joinpath("topics.yaml").read_bytes(), type=_File
    )
    topics: list[Topic] = []
    for entry in declared.topics:
        topic = Topic(
            name=entry.name,
            kind=entry.kind,
            key=entry.key,
            partitions=entry.partitions,
            retention_days=entry.retention_days or declared.defaults.retention_days,
            max_message_bytes=entry.max_message_bytes or declared.defaults.max_message_bytes,
            cleanup=entry.cleanup,
            min_compaction_lag_ms=entry.min_compaction_lag_ms,
            dlq=entry.dlq,
        )
        topics.append(topic)
        if topic.dlq:
            topics.append(_dlq_of(topic))
    return tuple(topics)


@cache
def topic(name: str) -> Topic:
    """Give the topic with that name; KeyError where topics.yaml names none."""
    return {each.name: each for each in all_topics()}[name]


def _dlq_of(source: Topic) -> Topic:
    return Topic(
        name=source.name + DLQ_SUFFIX,
        kind="dead_letter",
        key=source.key,
        partitions=source.partitions,
        retention_days=DLQ_RETENTION_DAYS,
        max_message_bytes=source.max_message_bytes * DLQ_MESSAGE_BYTES_RATIO,
    )
