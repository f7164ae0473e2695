"""Decides which topic configurations are accepted and what they mean; holds no I/O."""

from collections.abc import Callable, Mapping

import msgspec

from services.local.kafka.batch import CODEC_NAMES
from services.local.kafka.errors import ErrorCode, Refused

UNLIMITED = -1
DAY_MS = 24 * 3_600_000
INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1
SEGMENT_BYTES_MIN = 1024**2  # Kafka's since 4.0

# Settings of Apache Kafka's that mean nothing here, or more than this broker does: refused by name, since a
# setting that is taken and not heeded would be found out in production.
NOT_HONOURED = frozenset(
    (
        "compression.gzip.level",
        "compression.lz4.level",
        "compression.zstd.level",
        "errors.deadletterqueue.group.enable",
        "file.delete.delay.ms",
        "flush.messages",
        "flush.ms",
        "follower.replication.throttled.replicas",
        "index.interval.bytes",
        "leader.replication.throttled.replicas",
        "local.retention.bytes",
        "local.retention.ms",
        "max.decompressed.message.bytes",
        "preallocate",
        "remote.copy.lag.bytes",
        "remote.copy.lag.ms",
        "remote.log.copy.disable",
        "remote.log.delete.on.disable",
        "remote.storage.enable",
        "segment.index.bytes",
        "segment.jitter.ms",
        "unclean.leader.election.enable",
    )
)


class TopicConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A topic's configuration, decoded; the defaults are Kafka's, except the smaller segments."""

    cleanup_policy: frozenset[str] = frozenset({"delete"})
    compression_type: str = "producer"
    delete_retention_ms: int = DAY_MS
    max_compaction_lag_ms: int = LONG_MAX
    max_message_bytes: int = 1_048_588
    message_timestamp_after_max_ms: int = 3_600_000
    message_timestamp_before_max_ms: int = LONG_MAX
    message_timestamp_type: str = "CreateTime"
    min_cleanable_dirty_ratio: float = 0.5
    min_compaction_lag_ms: int = 0
    min_insync_replicas: int = 1
    retention_bytes: int = UNLIMITED
    retention_ms: int = 7 * DAY_MS
    segment_bytes: int = 64 * 1024**2  # a gigabyte would keep a laptop's log from ever expiring or compacting
    segment_ms: int = 7 * DAY_MS

    @property
    def is_compacted(self) -> bool:
        """Whether only the last record of each key is kept."""
        return "compact" in self.cleanup_policy

    @property
    def expires(self) -> bool:
        """Whether old segments are deleted by time and size."""
        return "delete" in self.cleanup_policy

    @property
    def roll_ms(self) -> int:
        """After what time a segment is closed, so that it can expire or be cleaned."""
        return min(self.segment_ms, self.max_compaction_lag_ms) if self.is_compacted else self.segment_ms

    @property
    def codec(self) -> int | None:
        """The compression that the topic insists on, None for whatever the producer chose."""
        return None if self.compression_type == "producer" else CODEC_NAMES.index(self.compression_type)

    @property
    def uses_append_time(self) -> bool:
        """Whether the broker's clock dates the records."""
        return self.message_timestamp_type == "LogAppendTime"


def decode_config(entries: Mapping[str, str | None]) -> TopicConfig:
    """Decode configuration entries as a client sends them; refuse unknown names and impossible values."""
    fields: dict[str, object] = {}
    for name, value in entries.items():
        if name in NOT_HONOURED:
            raise Refused(ErrorCode.INVALID_CONFIG, f"The local Kafka does not honour {name}.")
        if name not in _DECODERS:
            raise Refused(ErrorCode.INVALID_CONFIG, f"Unknown topic config name: {name}")
        if value is None:
            continue
        try:
            fields[_field(name)] = _DECODERS[name](value)
        except ValueError as exc:
            raise Refused(
                ErrorCode.INVALID_CONFIG, f"Invalid value {value} for configuration {name}"
            ) from exc
    config = msgspec.convert(fields, TopicConfig)
    if config.min_compaction_lag_ms > config.max_compaction_lag_ms:
        raise Refused(ErrorCode.INVALID_CONFIG, "min.compaction.lag.ms is above max.compaction.lag.ms")
    return config


def encode_config(config: TopicConfig) -> dict[str, str]:
    """Write every configuration as a client reads it."""
    return {name: _encoded(getattr(config, _field(name))) for name in _DECODERS}


def _field(name: str) -> str:
    return name.replace(".", "_")


def _encoded(value: frozenset[str] | str | float) -> str:
    return ",".join(sorted(value)) if isinstance(value, frozenset) else str(value)


def _policies(value: str) -> frozenset[str]:
    policies = frozenset(part.strip() for part in value.split(",") if value.strip())
    if not policies <= {"delete", "compact"}:
        raise ValueError(value)
    return policies


def _one_of(*choices: str) -> Callable[[str], str]:
    def decode(value: str) -> str:
        if value not in choices:
            raise ValueError(value)
        return value

    return decode


def _between(minimum: int, maximum: int = LONG_MAX) -> Callable[[str], int]:
    def decode(value: str) -> int:
        number = int(value)
        if not minimum <= number <= maximum:
            raise ValueError(value)
        return number

    return decode


def _ratio(value: str) -> float:
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError(value)
    return number


_DECODERS: dict[str, Callable[[str], object]] = {
    "cleanup.policy": _policies,
    "compression.type": _one_of("producer", *CODEC_NAMES),
    "delete.retention.ms": _between(0),
    "max.compaction.lag.ms": _between(1),
    "max.message.bytes": _between(0, INT_MAX),
    "message.timestamp.after.max.ms": _between(0),
    "message.timestamp.before.max.ms": _between(0),
    "message.timestamp.type": _one_of("CreateTime", "LogAppendTime"),
    "min.cleanable.dirty.ratio": _ratio,
    "min.compaction.lag.ms": _between(0),
    "min.insync.replicas": _between(1, INT_MAX),
    "retention.bytes": _between(UNLIMITED),
    "retention.ms": _between(UNLIMITED),
    "segment.bytes": _between(SEGMENT_BYTES_MIN, INT_MAX),
    "segment.ms": _between(1),
}
