"""Answers the administrative requests: topics, partitions, configurations, deletion; never awaits."""

from collections.abc import Callable

from services.local.kafka.admin_messages import (
    AlterConfigsRequest,
    AlterConfigsResponse,
    AlteredResource,
    ConfigEntry,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DescribeConfigsRequest,
    DescribeConfigsResponse,
    DescribedConfig,
    DescribedResource,
    NewTopic,
    PartitionTrim,
    PartitionTrimmed,
    ResourceConfigs,
    ResourceNames,
    TopicError,
    TopicErrorsResponse,
    TopicTrimmed,
)
from services.local.kafka.configs import decode_config, encode_config
from services.local.kafka.errors import ErrorCode, Refused
from services.local.kafka.offsets import CommittedOffsets
from services.local.kafka.topics import TopicRecord, Topics

_DEFAULT_COUNT = -1
_DELETE_ALL = -1
_TOPIC_RESOURCE = 2
_BROKER_RESOURCE = 4
_SOURCE_TOPIC = 1
_SOURCE_DEFAULT = 5
_BROKER_CONFIGS = {
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "num.partitions": "1",
}


def create_topics(topics: Topics, request: CreateTopicsRequest) -> TopicErrorsResponse:
    """Create topics, or only check whether they could be."""
    apply = topics.check_new if request.validate_only else topics.create
    names = [item.topic for item in request.create_topic_requests]

    def create(item: NewTopic) -> TopicError:
        try:
            if names.count(item.topic) > 1:
                raise Refused(ErrorCode.INVALID_REQUEST, "The topic is named twice.")
            apply(item.topic, _record(item))
        except Refused as refusal:
            return _topic_refused(item.topic, refusal)
        return TopicError(topic=item.topic)

    return TopicErrorsResponse(topic_errors=[create(item) for item in request.create_topic_requests])


def delete_topics(
    topics: Topics, offsets: CommittedOffsets, request: DeleteTopicsRequest
) -> DeleteTopicsResponse:
    """Delete topics, with the positions that groups hold in them."""

    def delete(name: str) -> TopicError:
        try:
            topics.delete(name)
        except Refused as refusal:
            return _topic_refused(name, refusal)
        offsets.forget_topic(name)
        return TopicError(topic=name)

    return DeleteTopicsResponse(topic_error_codes=[delete(name) for name in request.topics])


def create_partitions(topics: Topics, request: CreatePartitionsRequest) -> TopicErrorsResponse:
    """Give topics more partitions, or only check whether they could have them."""
    apply: Callable[[str, int], None] = topics.check_growth if request.validate_only else topics.grow

    def grow(name: str, count: int) -> TopicError:
        try:
            apply(name, count)
        except Refused as refusal:
            return _topic_refused(name, refusal)
        return TopicError(topic=name)

    return TopicErrorsResponse(
        topic_errors=[grow(item.topic, item.new_partitions.count) for item in request.topic_partitions]
    )


def delete_records(topics: Topics, request: DeleteRecordsRequest) -> DeleteRecordsResponse:
    """Delete records from the front of partitions."""

    def trim(topic: str, item: PartitionTrim) -> PartitionTrimmed:
        try:
            log = topics.log(topic, item.partition)
            offset = log.end_offset if item.offset == _DELETE_ALL else item.offset
            if not 0 <= offset <= log.end_offset:
                raise Refused(ErrorCode.OFFSET_OUT_OF_RANGE)
            log.trim(offset)
        except Refused as refusal:
            return PartitionTrimmed(partition=item.partition, error_code=refusal.code)
        return PartitionTrimmed(partition=item.partition, low_watermark=log.start_offset)

    return DeleteRecordsResponse(
        topics=[
            TopicTrimmed(topic=item.topic, partitions=[trim(item.topic, part) for part in item.partitions])
            for item in request.topics
        ]
    )


def describe_configs(topics: Topics, request: DescribeConfigsRequest) -> DescribeConfigsResponse:
    """Give the configurations of topics, and the few that this broker has."""
    return DescribeConfigsResponse(resources=[_described(topics, item) for item in request.resources])


def alter_configs(topics: Topics, request: AlterConfigsRequest) -> AlterConfigsResponse:
    """Replace the configurations of topics, or only check whether they could be."""

    def alter(item: ResourceConfigs) -> AlteredResource:
        code, reason = ErrorCode.NONE, None
        try:
            _check_topic_resource(item.resource_type)
            topics.get(item.resource_name)
            configs = _set_configs(item.config_entries)
            decode_config(configs)
            if not request.validate_only:
                topics.configure(item.resource_name, configs)
        except Refused as refusal:
            code, reason = refusal.code, refusal.reason
        return AlteredResource(
            error_code=code,
            error_message=reason,
            resource_type=item.resource_type,
            resource_name=item.resource_name,
        )

    return AlterConfigsResponse(resources=[alter(item) for item in request.resources])


def _record(item: NewTopic) -> TopicRecord:
    if item.replica_assignment and item.num_partitions != _DEFAULT_COUNT:
        raise Refused(ErrorCode.INVALID_REQUEST, "Both an assignment and a number of partitions are given.")
    if item.replication_factor not in (_DEFAULT_COUNT, 1):
        raise Refused(ErrorCode.INVALID_REPLICATION_FACTOR, "This broker is the only replica.")
    partitions = len(item.replica_assignment) or item.num_partitions
    if partitions == _DEFAULT_COUNT:
        partitions = 1
    return TopicRecord(partitions=partitions, configs=_set_configs(item.configs))


def _set_configs(entries: list[ConfigEntry]) -> dict[str, str]:
    configs: dict[str, str] = {}
    for entry in entries:
        if entry.value is None:
            raise Refused(ErrorCode.INVALID_CONFIG, f"Null value not supported for {entry.name}")
        configs[entry.name] = entry.value
    return configs


def _check_topic_resource(resource_type: int) -> None:
    if resource_type != _TOPIC_RESOURCE:
        raise Refused(ErrorCode.INVALID_REQUEST, "Only the configurations of topics can be altered.")


def _topic_refused(name: str, refusal: Refused) -> TopicError:
    return TopicError(topic=name, error_code=refusal.code, error_message=refusal.reason)


def _described(topics: Topics, item: ResourceNames) -> DescribedResource:
    try:
        entries = _entries(topics, item)
    except Refused as refusal:
        return DescribedResource(
            error_code=refusal.code,
            error_message=refusal.reason,
            resource_type=item.resource_type,
            resource_name=item.resource_name,
        )
    wanted = item.config_names
    return DescribedResource(
        resource_type=item.resource_type,
        resource_name=item.resource_name,
        config_entries=[entry for entry in entries if not wanted or entry.name in wanted],
    )


def _entries(topics: Topics, item: ResourceNames) -> list[DescribedConfig]:
    if item.resource_type == _BROKER_RESOURCE:
        return [_entry(name, value, is_set=False, read_only=True) for name, value in _BROKER_CONFIGS.items()]
    _check_topic_resource(item.resource_type)
    configs = topics.get(item.resource_name).record.configs
    values = encode_config(decode_config(configs))
    return [_entry(name, value, is_set=name in configs, read_only=False) for name, value in values.items()]


def _entry(name: str, value: str, *, is_set: bool, read_only: bool) -> DescribedConfig:
    return DescribedConfig(
        name=name,
        value=value,
        read_only=read_only,
        is_default=not is_set,
        config_source=_SOURCE_TOPIC if is_set else _SOURCE_DEFAULT,
    )
