"""Carries Kafka records in and out of the deciding code, which knows no client library."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from schemas.codec import Headers


class OutgoingRecord(NamedTuple):
    """A record to publish; the partition follows from the key, as Kafka's default partitioner has it.

    A value of None is a tombstone.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


class ConsumedRecord(NamedTuple):
    """A record as it lies in the log; `timestamp_ms` is the broker's."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class DeadRecord(NamedTuple):
    """A record that this stage can never use, and why; the text holds no value of the record."""

    record: ConsumedRecord
    error_class: str
    error: str


class Processed(NamedTuple):
    """What became of a batch of records: all of it is acknowledged before their offsets are committed."""

    outgoing: Sequence[OutgoingRecord] = ()
    dead: Sequence[DeadRecord] = ()


class Stage(Protocol):
    """What a consumer does with the records it is given; the loop around it polls, publishes and commits.

    `process` may be given the same records again after a crash or a rebalance, so its effect must be
    the same the second time. It returns only when what it wrote elsewhere is durable.
    """

    @property
    def name(self) -> str:
        """The stage's name in the consumer group, dead letters, logs and metrics."""
        ...

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics to read."""
        ...

    async def process(self, records: Sequence[ConsumedRecord]) -> Processed:
        """Handle the records of one poll, in order within each partition."""
        ...


@runtime_checkable
class PartitionOwner(Protocol):
    """A stage that works on between records, and so has to know which partitions are its own."""

    def assigned(self, partitions: frozenset[tuple[str, int]]) -> None:
        """Begin to work for these partitions; none was held before."""
        ...

    async def revoked(self) -> None:
        """End all work for the partitions held; they may be another member's as soon as this returns."""
        ...
