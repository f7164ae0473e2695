"""Carries the requests and answers of the protocol, one type for all versions of each; decides nothing."""

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Base of everything that crosses the wire. Fields that a version lacks have defaults."""


# ---- produce, fetch, offsets, metadata


class PartitionRecords(Message, frozen=True, kw_only=True):
    """One record batch for one partition."""

    partition: int
    messages: bytes | None


class TopicRecords(Message, frozen=True, kw_only=True):
    """Record batches for one topic."""

    topic: str
    partitions: list[PartitionRecords]


class ProduceRequest(Message, frozen=True, kw_only=True):
    """Append these batches."""

    transactional_id: str | None = None
    required_acks: int
    topics: list[TopicRecords]


class PartitionProduced(Message, frozen=True, kw_only=True):
    """Where a batch went, or why not."""

    partition: int
    error_code: int
    offset: int = -1
    timestamp: int = -1
    log_start_offset: int = -1
    error_message: str | None = None


class TopicProduced(Message, frozen=True, kw_only=True):
    """The fate of one topic's batches."""

    topic: str
    partitions: list[PartitionProduced]


class ProduceResponse(Message, frozen=True, kw_only=True):
    """The fate of every batch."""

    topics: list[TopicProduced]


class PartitionFetch(Message, frozen=True, kw_only=True):
    """Where to read on in one partition."""

    partition: int
    offset: int
    max_bytes: int


class TopicFetch(Message, frozen=True, kw_only=True):
    """Where to read on in one topic."""

    topic: str
    partitions: list[PartitionFetch]


class FetchRequest(Message, frozen=True, kw_only=True):
    """Read on, waiting up to `max_wait_time` ms for `min_bytes`."""

    max_wait_time: int
    min_bytes: int
    max_bytes: int
    isolation_level: int = 0
    session_id: int = 0
    topics: list[TopicFetch]


class AbortedSpan(Message, frozen=True, kw_only=True):
    """An aborted transaction that overlaps what was read."""

    producer_id: int
    first_offset: int


class PartitionFetched(Message, frozen=True, kw_only=True):
    """Batches of one partition, and how far it reaches."""

    partition: int
    error_code: int = 0
    highwater_offset: int = -1
    last_stable_offset: int = -1
    log_start_offset: int = -1
    aborted_transactions: list[AbortedSpan] | None = None
    preferred_read_replica: int = -1
    message_set: bytes = b""


class TopicFetched(Message, frozen=True, kw_only=True):
    """Batches of one topic."""

    topic: str
    partitions: list[PartitionFetched]


class FetchResponse(Message, frozen=True, kw_only=True):
    """What there was to read."""

    error_code: int = 0
    topics: list[TopicFetched]


class PartitionTime(Message, frozen=True, kw_only=True):
    """A time, or -1 for the end and -2 for the start, to be turned into an offset."""

    partition: int
    timestamp: int


class TopicTimes(Message, frozen=True, kw_only=True):
    """Times to be turned into offsets of one topic."""

    topic: str
    partitions: list[PartitionTime]


class ListOffsetsRequest(Message, frozen=True, kw_only=True):
    """Turn times into offsets."""

    isolation_level: int = 0
    topics: list[TopicTimes]


class PartitionOffset(Message, frozen=True, kw_only=True):
    """The offset asked for, -1 where there is none."""

    partition: int
    error_code: int = 0
    timestamp: int = -1
    offset: int = -1


class TopicOffsets(Message, frozen=True, kw_only=True):
    """The offsets of one topic."""

    topic: str
    partitions: list[PartitionOffset]


class ListOffsetsResponse(Message, frozen=True, kw_only=True):
    """Times turned into offsets."""

    topics: list[TopicOffsets]


class MetadataRequest(Message, frozen=True, kw_only=True):
    """Describe these topics, all for None."""

    topics: list[str] | None
    allow_auto_topic_creation: bool = True


class BrokerAddress(Message, frozen=True, kw_only=True):
    """Where this broker listens."""

    node_id: int
    host: str
    port: int


class PartitionMetadata(Message, frozen=True, kw_only=True):
    """Who leads a partition: always this broker."""

    partition: int
    leader: int
    replicas: list[int]
    isr: list[int]


class TopicMetadata(Message, frozen=True, kw_only=True):
    """A topic and its partitions."""

    error_code: int = 0
    topic: str
    partitions: list[PartitionMetadata]


class MetadataResponse(Message, frozen=True, kw_only=True):
    """The cluster, which is one broker, and its topics."""

    brokers: list[BrokerAddress]
    cluster_id: str
    controller_id: int
    topics: list[TopicMetadata]


class ApiVersionsRequest(Message, frozen=True, kw_only=True):
    """Ask which requests and versions are offered."""


class ApiRange(Message, frozen=True, kw_only=True):
    """The versions offered of one kind of request."""

    api_key: int
    min_version: int
    max_version: int


class ApiVersionsResponse(Message, frozen=True, kw_only=True):
    """Every kind of request offered."""

    error_code: int = 0
    api_versions: list[ApiRange]


# ---- answers of one code, used by several kinds


class CodeResponse(Message, frozen=True, kw_only=True):
    """Nothing but an error code."""

    error_code: int


class PartitionCode(Message, frozen=True, kw_only=True):
    """An error code for one partition."""

    partition: int
    error_code: int
