"""Keeps the committed offsets of consumer groups on disk; decides nothing about groups."""

from pathlib import Path

import msgspec

from services.local.kafka.journal import Journal

METADATA_LENGTH_MAX = 4_096  # Kafka's offset.metadata.max.bytes


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Where a group stands in one partition, with the words it left there."""

    group: str
    topic: str
    partition: int
    offset: int
    metadata: str


class CommittedOffsets:
    """Every group's positions."""

    def __init__(self, path: Path) -> None:
        self._journal: Journal[Position] = Journal(path, Position)
        self._groups: dict[str, dict[tuple[str, int], Position]] = {}
        for position in self._journal.entries().values():
            self._remember(position)

    def commit(self, positions: list[Position]) -> None:
        """Remember all `positions`; they are on disk when this returns."""
        self._journal.update({_key(position): position for position in positions})
        for position in positions:
            self._remember(position)

    def of_group(self, group: str) -> dict[tuple[str, int], Position]:
        """Give a group's positions by topic and partition."""
        return dict(self._groups.get(group, {}))

    def groups(self) -> list[str]:
        """List the groups that have positions."""
        return sorted(self._groups)

    def forget_group(self, group: str) -> None:
        """Forget all positions of a group."""
        self._forget(list(self._groups.get(group, {}).values()))

    def forget_topic(self, topic: str) -> None:
        """Forget every group's positions in a deleted topic."""
        everything = (position for positions in self._groups.values() for position in positions.values())
        self._forget([position for position in everything if position.topic == topic])

    def close(self) -> None:
        """Close the file."""
        self._journal.close()

    def _remember(self, position: Position) -> None:
        self._groups.setdefault(position.group, {})[position.topic, position.partition] = position

    def _forget(self, positions: list[Position]) -> None:
        self._journal.update({_key(position): None for position in positions})
        for position in positions:
            of_group = self._groups[position.group]
            del of_group[position.topic, position.partition]
            if not of_group:
                del self._groups[position.group]


def _key(position: Position) -> str:
    return f"{position.group}\n{position.topic}\n{position.partition}"
