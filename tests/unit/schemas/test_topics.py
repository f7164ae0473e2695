"""Topics: every one is typed, and its settings are exactly what the broker is asked for."""

from importlib import resources

import msgspec
import pytest
import yaml

from schemas import topics
from schemas.codec import STRUCTS
from schemas.topics import DLQ_SUFFIX, Topic, all_topics, topic

DAY_MS = 86_400_000
DECLARED = yaml.safe_load(resources.files("schemas").joinpath("topics.yaml").read_bytes())["topics"]


def test_every_topic_of_the_file_is_there_and_each_dlq_right_behind_its_source():
    expected: list[str] = []
    for each in DECLARED:
        expected.append(each["name"])
        if each.get("dlq"):
            expected.append(each["name"] + ".dlq")
    assert [each.name for each in all_topics()] == expected
    assert len(set(expected)) == len(expected)


@pytest.mark.parametrize("declared", DECLARED, ids=lambda each: each["name"])
def test_a_topic_is_what_the_file_says(declared: dict[str, object]):
    typed = msgspec.structs.asdict(topic(str(declared["name"])))
    assert {name: typed[name] for name in declared} == declared


def test_the_constants_name_the_topics_that_the_file_declares():
    constants = {
        topics.REQUESTS: "request_started",
        topics.RESPONSES: "response_finished",
        topics.USAGE: "usage_recorded",
        topics.RATED: "rated_usage",
        topics.EDGES: "heartbeat",
        topics.PRICE_BOOKS: "price_book_published",
        topics.BATCH_FACTS: "batch_fact",
        topics.BATCHES: "batch_state",
        topics.BATCH_OWNERS: "batch_owner",
        topics.KEYS: "key_record",
    }
    assert constants == {each["name"]: each["kind"] for each in DECLARED}


def test_every_kind_has_a_topic():
    assert {each.kind for each in all_topics()} == set(STRUCTS)


def test_a_dlq_is_derived_from_its_source():
    source = topic("gateway.usage.v1")
    assert topic("gateway.usage.v1.dlq") == Topic(
        name="gateway.usage.v1.dlq",
        kind="dead_letter",
        key="virtual_key_id",
        partitions=12,
        retention_days=30,
        max_message_bytes=2 * 1_048_588,
    )
    assert source.dlq


def test_a_dead_letter_of_the_largest_record_fits_its_topic():
    """The value is there in base64; a quarter of the source's limit is left for key, headers and error."""
    for source in all_topics():
        if source.dlq:
            room = topic(source.name + DLQ_SUFFIX).max_message_bytes
            assert source.max_message_bytes * 4 / 3 + source.max_message_bytes / 4 < room


def test_the_settings_of_a_topic_that_forgets_by_age():
    assert topic("gateway.usage.v1").configs() == {
        "cleanup.policy": "delete",
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": "1048588",
        "compression.type": "producer",
        "retention.ms": str(30 * DAY_MS),
    }


def test_a_price_book_is_kept_for_ever_and_never_compacted():
    assert topic("gateway.price_books.v1").configs() == {
        "cleanup.policy": "delete",
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": "1048588",
        "compression.type": "producer",
        "retention.ms": "-1",
    }
    assert topic("gateway.price_books.v1").partitions == 1


def test_the_state_of_a_batch_has_the_partition_of_its_facts():
    facts, states = topic("gateway.batch_facts.v1"), topic("gateway.batches.v1")
    assert (facts.key, facts.partitions) == (states.key, states.partitions)


def test_whose_a_batch_is_stands_in_one_log_for_as_long_as_its_facts():
    owners = topic("gateway.batch_owners.v1")
    assert (owners.partitions, owners.retention_days) == (1, topic("gateway.batch_facts.v1").retention_days)


def test_the_settings_of_a_compacted_topic():
    compacted = Topic(
        name="gateway.spend.v1",
        kind="rated_usage",
        key="scope",
        partitions=12,
        retention_days=7,
        max_message_bytes=4096,
        cleanup="compact",
        min_compaction_lag_ms=3_600_000,
    )
    assert compacted.configs() == {
        "cleanup.policy": "compact",
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": "4096",
        "compression.type": "producer",
        "min.compaction.lag.ms": "3600000",
    }


def test_a_topic_that_nobody_declared_is_a_key_error():
    with pytest.raises(KeyError):
        topic("gateway.usage.v2")
