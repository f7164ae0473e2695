"""Puts the broker together over one data directory and answers each request that needs no waiting."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import msgspec

from services.local.kafka import admin, records, transaction_requests, wire
from services.local.kafka.admin_messages import (
    AlterConfigsRequest,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    DescribeConfigsRequest,
)
from services.local.kafka.coordination_messages import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    DeleteGroupsRequest,
    DescribeGroupsRequest,
    EndTxnRequest,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
    HeartbeatRequest,
    InitProducerIdRequest,
    LeaveGroupRequest,
    ListGroupsRequest,
    OffsetCommitRequest,
    OffsetFetchRequest,
    TxnOffsetCommitRequest,
)
from services.local.kafka.coordinator import SESSION_TIMEOUT_MS_MIN, GroupCoordinator
from services.local.kafka.errors import ErrorCode, Refused, UnsupportedRequest
from services.local.kafka.journal import Journal, replace_file
from services.local.kafka.messages import (
    ApiVersionsRequest,
    ApiVersionsResponse,
    BrokerAddress,
    ListOffsetsRequest,
    Message,
    MetadataRequest,
    MetadataResponse,
    PartitionMetadata,
    ProduceRequest,
    TopicMetadata,
)
from services.local.kafka.offsets import CommittedOffsets
from services.local.kafka.topics import TopicRecord, Topics
from services.local.kafka.transactions import TransactionalProducer, Transactions
from services.runtime.errors import StartRefused
from services.runtime.lock import DirectoryHeld, lock_directory

NODE_ID = 1

Request = TypeVar("Request", bound=Message)


def now_ms() -> int:
    """Read the clock that dates records."""
    return time.time_ns() // 1_000_000


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a broker behaves; `auto_create_partitions` of 0 means that unknown topics stay unknown."""

    data_dir: Path
    auto_create_partitions: int = 0
    session_timeout_ms_min: int = SESSION_TIMEOUT_MS_MIN


class Broker:
    """One broker over one data directory, which it locks. Only one task may use it."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._lock = _locked(settings.data_dir)
        self._address = BrokerAddress(node_id=NODE_ID, host="", port=0)
        self.cluster_id = _cluster_id(settings.data_dir / "cluster_id")
        self.topics = Topics(settings.data_dir)
        self.offsets = CommittedOffsets(settings.data_dir / "offsets.journal")
        journal = Journal(settings.data_dir / "transactions.journal", TransactionalProducer)
        self.transactions = Transactions(journal, self.topics, self.offsets)
        self.transactions.recover(now_ms())
        self.coordinator = GroupCoordinator(self.topics, self.offsets, settings.session_timeout_ms_min)
        self._handlers: dict[type[Message], Callable[[Message], Message]] = {}
        self._add_record_handlers()
        self._add_group_handlers()
        self._add_transaction_handlers()
        self._add_admin_handlers()

    def advertise(self, host: str, port: int) -> None:
        """Set the address that clients are sent to."""
        self._address = BrokerAddress(node_id=NODE_ID, host=host, port=port)

    def answer(self, request: Message) -> Message:
        """Answer a request that needs no waiting."""
        handler = self._handlers.get(type(request))
        if handler is None:
            raise UnsupportedRequest(type(request).__name__)
        return handler(request)

    def next_deadline_s(self) -> float | None:
        """Say when `on_time` has something to decide."""
        deadlines = (self.coordinator.next_deadline_s(), self.transactions.next_deadline_s())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def on_time(self) -> None:
        """Do what the clocks of groups and transactions ask for."""
        now_s = time.monotonic()
        self.coordinator.on_time(now_s)
        self.transactions.abort_overdue(now_s, now_ms())

    def close(self) -> None:
        """Close every file and unlock the data directory."""
        self.topics.close()
        self.offsets.close()
        self.transactions.close()
        os.close(self._lock)

    def _on(self, request_type: type[Request], handler: Callable[[Request], Message]) -> None:
        def checked(request: Message) -> Message:
            assert isinstance(request, request_type)
            return handler(request)

        self._handlers[request_type] = checked

    def _add_record_handlers(self) -> None:
        def produce(request: ProduceRequest) -> Message:
            self._create_unknown([item.topic for item in request.topics])
            return records.produce(self.topics, self.transactions, request, now_ms())

        def api_versions(_: ApiVersionsRequest) -> Message:
            return ApiVersionsResponse(api_versions=wire.offered_ranges())

        self._on(ProduceRequest, produce)
        self._on(ListOffsetsRequest, lambda request: records.list_offsets(self.topics, request))
        self._on(MetadataRequest, self._metadata)
        self._on(ApiVersionsRequest, api_versions)

    def _add_group_handlers(self) -> None:
        coordinator = self.coordinator
        self._on(FindCoordinatorRequest, self._find_coordinator)
        self._on(HeartbeatRequest, lambda request: coordinator.heartbeat(request, time.monotonic()))
        self._on(LeaveGroupRequest, lambda request: coordinator.leave(request, time.monotonic()))
        self._on(OffsetCommitRequest, lambda request: coordinator.commit(request, time.monotonic()))
        self._on(OffsetFetchRequest, coordinator.fetch_offsets)
        self._on(ListGroupsRequest, coordinator.list_groups)
        self._on(DescribeGroupsRequest, coordinator.describe_groups)
        self._on(DeleteGroupsRequest, coordinator.delete_groups)

    def _add_transaction_handlers(self) -> None:
        handlers, transactions = transaction_requests, self.transactions
        self._on(
            InitProducerIdRequest,
            lambda request: handlers.init_producer_id(transactions, request, now_ms()),
        )
        self._on(
            AddPartitionsToTxnRequest,
            lambda request: handlers.add_partitions(transactions, request, time.monotonic()),
        )
        self._on(
            AddOffsetsToTxnRequest,
            lambda request: handlers.add_offsets(transactions, request, time.monotonic()),
        )
        self._on(
            TxnOffsetCommitRequest,
            lambda request: handlers.commit_offsets(transactions, request, time.monotonic()),
        )
        self._on(EndTxnRequest, lambda request: handlers.end_transaction(transactions, request, now_ms()))

    def _add_admin_handlers(self) -> None:
        topics = self.topics
        self._on(CreateTopicsRequest, lambda request: admin.create_topics(topics, request))
        self._on(DeleteTopicsRequest, lambda request: admin.delete_topics(topics, self.offsets, request))
        self._on(CreatePartitionsRequest, lambda request: admin.create_partitions(topics, request))
        self._on(DeleteRecordsRequest, lambda request: admin.delete_records(topics, request))
        self._on(DescribeConfigsRequest, lambda request: admin.describe_configs(topics, request))
        self._on(AlterConfigsRequest, lambda request: admin.alter_configs(topics, request))

    def _metadata(self, request: MetadataRequest) -> MetadataResponse:
        if request.topics and request.allow_auto_topic_creation:
            self._create_unknown(request.topics)
        names = self.topics.names() if request.topics is None else request.topics
        return MetadataResponse(
            brokers=[self._address],
            cluster_id=self.cluster_id,
            controller_id=NODE_ID,
            topics=[self._topic_metadata(name) for name in names],
        )

    def _topic_metadata(self, name: str) -> TopicMetadata:
        topic = self.topics.find(name)
        if topic is None:
            return TopicMetadata(error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, topic=name, partitions=[])
        partitions = [
            PartitionMetadata(partition=number, leader=NODE_ID, replicas=[NODE_ID], isr=[NODE_ID])
            for number in range(len(topic.logs))
        ]
        return TopicMetadata(topic=name, partitions=partitions)

    def _find_coordinator(self, _: FindCoordinatorRequest) -> FindCoordinatorResponse:
        return FindCoordinatorResponse(
            coordinator_id=NODE_ID, host=self._address.host, port=self._address.port
        )

    def _create_unknown(self, names: list[str]) -> None:
        partitions = self._settings.auto_create_partitions
        for name in names if partitions else []:
            if self.topics.find(name) is None:
                try:
                    self.topics.create(name, TopicRecord(partitions=partitions, configs={}))
                except Refused:
                    continue  # an impossible name: the answer calls the topic unknown


def _locked(data_dir: Path) -> int:
    """Make the data directory this process's own until the descriptor is closed."""
    try:
        return lock_directory(data_dir, "lock")
    except DirectoryHeld as exc:
        raise StartRefused(f"The data directory {data_dir} is in use by another process.") from exc
    except OSError as exc:
        raise StartRefused(f"The data directory {data_dir} cannot be written: {exc.strerror}.") from exc


def _cluster_id(path: Path) -> str:
    if not path.exists():
        replace_file(path, uuid4().hex.encode())
    return path.read_text()
