"""Carries the administrative requests and answers of the protocol; decides nothing."""

import msgspec

from services.local.kafka.messages import Message


class ConfigEntry(Message, frozen=True, kw_only=True):
    """One configuration as a client sets it."""

    name: str
    value: str | None


class ReplicaAssignment(Message, frozen=True, kw_only=True):
    """The brokers of one partition."""

    partition_id: int
    replicas: list[int]


class NewTopic(Message, frozen=True, kw_only=True):
    """A topic to be created."""

    topic: str
    num_partitions: int
    replication_factor: int
    replica_assignment: list[ReplicaAssignment]
    configs: list[ConfigEntry]


class CreateTopicsRequest(Message, frozen=True, kw_only=True):
    """Create these topics."""

    create_topic_requests: list[NewTopic]
    validate_only: bool = False


class TopicError(Message, frozen=True, kw_only=True):
    """Whether something was done to a topic."""

    topic: str
    error_code: int = 0
    error_message: str | None = None


class TopicErrorsResponse(Message, frozen=True, kw_only=True):
    """Whether it was done, for each topic."""

    topic_errors: list[TopicError]


class DeleteTopicsRequest(Message, frozen=True, kw_only=True):
    """Delete these topics with their records."""

    topics: list[str]


class DeleteTopicsResponse(Message, frozen=True, kw_only=True):
    """Which topics were deleted."""

    topic_error_codes: list[TopicError]


class PartitionCount(Message, frozen=True, kw_only=True):
    """How many partitions a topic shall have."""

    count: int


class MorePartitions(Message, frozen=True, kw_only=True):
    """A topic that shall have more partitions."""

    topic: str
    new_partitions: PartitionCount


class CreatePartitionsRequest(Message, frozen=True, kw_only=True):
    """Give these topics more partitions."""

    topic_partitions: list[MorePartitions]
    validate_only: bool


class PartitionTrim(Message, frozen=True, kw_only=True):
    """Delete the records before `offset`, all of them for -1."""

    partition: int
    offset: int


class TopicTrims(Message, frozen=True, kw_only=True):
    """Records to be deleted from one topic."""

    topic: str
    partitions: list[PartitionTrim]


class DeleteRecordsRequest(Message, frozen=True, kw_only=True):
    """Delete records from the front."""

    topics: list[TopicTrims]


class PartitionTrimmed(Message, frozen=True, kw_only=True):
    """Where a partition starts now."""

    partition: int
    low_watermark: int = -1
    error_code: int = 0


class TopicTrimmed(Message, frozen=True, kw_only=True):
    """Where one topic's partitions start now."""

    topic: str
    partitions: list[PartitionTrimmed]


class DeleteRecordsResponse(Message, frozen=True, kw_only=True):
    """Where the partitions start now."""

    topics: list[TopicTrimmed]


class ResourceNames(Message, frozen=True, kw_only=True):
    """A resource whose configurations are asked for, all for None."""

    resource_type: int
    resource_name: str
    config_names: list[str] | None


class DescribeConfigsRequest(Message, frozen=True, kw_only=True):
    """Give the configurations of these resources."""

    resources: list[ResourceNames]


class DescribedConfig(Message, frozen=True, kw_only=True):
    """One configuration and where it comes from."""

    name: str
    value: str | None
    read_only: bool
    is_default: bool
    config_source: int
    is_sensitive: bool = False


class DescribedResource(Message, frozen=True, kw_only=True):
    """A resource's configurations."""

    error_code: int = 0
    error_message: str | None = None
    resource_type: int
    resource_name: str
    config_entries: list[DescribedConfig] = msgspec.field(default_factory=list[DescribedConfig])


class DescribeConfigsResponse(Message, frozen=True, kw_only=True):
    """The configurations asked for."""

    resources: list[DescribedResource]


class ResourceConfigs(Message, frozen=True, kw_only=True):
    """A resource and all its new configurations."""

    resource_type: int
    resource_name: str
    config_entries: list[ConfigEntry]


class AlterConfigsRequest(Message, frozen=True, kw_only=True):
    """Replace the configurations of these resources; what is not named falls back to its default."""

    resources: list[ResourceConfigs]
    validate_only: bool


class AlteredResource(Message, frozen=True, kw_only=True):
    """Whether a resource was altered."""

    error_code: int = 0
    error_message: str | None = None
    resource_type: int
    resource_name: str


class AlterConfigsResponse(Message, frozen=True, kw_only=True):
    """Which resources were altered."""

    resources: list[AlteredResource]
