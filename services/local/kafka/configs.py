"""Decides which topic configurations are accepted and what they mean; holds no I/O."""

from collections.abc import Callable, Mapping

import msgspec

from services.local.kafka.batch import CODEC_NAMES
from services.local.kafka.errors import ErrorCode, Refused

UNLIMITED = -1
DAY_MS = 24 * 3_600_000


class TopicConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A topic's configuration, decoded; the defaults are Kafka's, except the smaller segments."""

    cleanup_policy: frozenset[str] = frozenset({"delete"})
    compression_type: str = "producer"
    delete_retention_ms: int = DAY_MS
    max_message_bytes: int = 1_048_588
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
    return msgspec.convert(fields, TopicConfig)


def encode_config(config: TopicConfig) -> dict[str, str]:
    """Write every configuration as a client reads it."""
    return {name: _encoded(getattr(config, _field(name))) for name in _DECODERS}


def _field(name: str) -> str:
    return name.replace(".", "_")


def _encoded(value: frozenset[str] | str | float) -> str:
    return ",".join(sorted(value)) if isinstance(value, frozenset) else str(value)


def _policies(value: str) -> frozenset[str]:
    policies = frozenset(part.strip() for part in value.split(","))
    if not policies <= {"delete", "compact"}:
        raise ValueError(value)
    return policies


def _one_of(*choices: str) -> Callable[[str], str]:
    def decode(value: str) -> str:
        if value not in choices:
            raise ValueError(value)
        return value

    return decode


def _at_least(minimum: int) -> Callable[[str], int]:
    def decode(value: str) -> int:
        number = int(value)
        if not minimum <= number < 2**63:
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
    "delete.retention.ms": _at_least(0),
    "max.message.bytes": _at_least(0),
    "message.timestamp.type": _one_of("CreateTime", "LogAppendTime"),
    "min.cleanable.dirty.ratio": _ratio,
    "min.compaction.lag.ms": _at_least(0),
    "min.insync.replicas": _at_least(1),
    "retention.bytes": _at_least(UNLIMITED),
    "retention.ms": _at_least(UNLIMITED),
    "segment.bytes": _at_least(14),
    "segment.ms": _at_least(1),
}
