"""Owns the topics: which exist, with how many partitions and which configuration; never reads a record."""

import re
import shutil
from pathlib import Path

import msgspec

from services.local.kafka.configs import decode_config
from services.local.kafka.errors import ErrorCode, Refused
from services.local.kafka.files import SegmentFiles
from services.local.kafka.journal import Journal
from services.local.kafka.log import PartitionLog

PARTITIONS_PER_TOPIC_MAX = 1_000  # a slip of the keyboard shall not make a million directories
PARTITIONS_MAX = 4_000  # each costs a few kilobytes and a directory
_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class TopicRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A topic as it stands in the journal; `configs` holds only what was set."""

    partitions: int
    configs: dict[str, str]


class Topic:
    """A topic with its open logs."""

    def __init__(self, name: str, record: TopicRecord, logs: list[PartitionLog]) -> None:
        self.name = name
        self.record = record
        self.logs = logs


class Topics:
    """Every topic of this broker."""

    def __init__(self, data_dir: Path) -> None:
        self._logs_dir = data_dir / "logs"
        self._files = SegmentFiles()
        self._journal: Journal[TopicRecord] = Journal(data_dir / "topics.journal", TopicRecord)
        self._topics: dict[str, Topic] = {}
        for name, record in self._journal.entries().items():
            self._topics[name] = Topic(name, record, self._open_logs(name, record, range(record.partitions)))

    def names(self) -> list[str]:
        """List the topics in the order of their names."""
        return sorted(self._topics)

    def find(self, name: str) -> Topic | None:
        """Give a topic, None for an unknown one."""
        return self._topics.get(name)

    def get(self, name: str) -> Topic:
        """Give a topic or refuse an unknown one."""
        topic = self._topics.get(name)
        if topic is None:
            raise Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist.")
        return topic

    def log(self, name: str, partition: int) -> PartitionLog:
        """Give the log of one partition or refuse an unknown one."""
        topic = self.get(name)
        if not 0 <= partition < len(topic.logs):
            raise Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return topic.logs[partition]

    def logs(self) -> list[PartitionLog]:
        """List every open log."""
        return [log for topic in self._topics.values() for log in topic.logs]

    def check_new(self, name: str, record: TopicRecord) -> None:
        """Refuse a topic that could not be created."""
        if not _NAME.fullmatch(name) or name in {".", ".."}:
            raise Refused(ErrorCode.INVALID_TOPIC, f"Topic name {name!r} is not valid.")
        if name in self._topics:
            raise Refused(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
        self._check_count(record.partitions, 0)
        decode_config(record.configs)

    def create(self, name: str, record: TopicRecord) -> None:
        """Create a topic or refuse it."""
        self.check_new(name, record)
        for partition in range(record.partitions):
            # What a crash in the middle of a deletion left behind is not this topic's.
            shutil.rmtree(self._directory(name, partition), ignore_errors=True)
        logs = self._open_logs(name, record, range(record.partitions))
        self._journal.update({name: record})
        self._topics[name] = Topic(name, record, logs)

    def delete(self, name: str) -> None:
        """Delete a topic with its records."""
        topic = self.get(name)
        self._journal.update({name: None})
        del self._topics[name]
        for log in topic.logs:
            log.close()
            shutil.rmtree(log.directory, ignore_errors=True)

    def check_growth(self, name: str, partitions: int) -> None:
        """Refuse a number of partitions that the topic cannot grow to."""
        current = len(self.get(name).logs)
        if partitions <= current:
            raise Refused(ErrorCode.INVALID_PARTITIONS, f"Topic already has {current} partitions.")
        self._check_count(partitions, current)

    def grow(self, name: str, partitions: int) -> None:
        """Give a topic more partitions."""
        self.check_growth(name, partitions)
        topic = self.get(name)
        record = msgspec.structs.replace(topic.record, partitions=partitions)
        new_logs = self._open_logs(name, record, range(len(topic.logs), partitions))
        self._journal.update({name: record})
        topic.record = record
        topic.logs.extend(new_logs)

    def configure(self, name: str, configs: dict[str, str]) -> None:
        """Replace a topic's configuration; what is not named falls back to its default."""
        topic = self.get(name)
        config = decode_config(configs)
        record = msgspec.structs.replace(topic.record, configs=configs)
        self._journal.update({name: record})
        topic.record = record
        for log in topic.logs:
            log.config = config

    def close(self) -> None:
        """Close every file and wake every waiter."""
        for log in self.logs():
            log.close()
        self._files.close()
        self._journal.close()

    def _directory(self, name: str, partition: int) -> Path:
        return self._logs_dir / f"{name}-{partition}"

    def _open_logs(self, name: str, record: TopicRecord, partitions: range) -> list[PartitionLog]:
        config = decode_config(record.configs)
        return [PartitionLog(self._directory(name, number), config, self._files) for number in partitions]

    def _check_count(self, partitions: int, current: int) -> None:
        if not 1 <= partitions <= PARTITIONS_PER_TOPIC_MAX:
            raise Refused(
                ErrorCode.INVALID_PARTITIONS, f"A topic has 1 to {PARTITIONS_PER_TOPIC_MAX} partitions."
            )
        if len(self.logs()) - current + partitions > PARTITIONS_MAX:
            raise Refused(ErrorCode.POLICY_VIOLATION, f"This broker holds {PARTITIONS_MAX} partitions.")
