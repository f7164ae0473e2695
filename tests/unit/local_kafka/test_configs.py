import pytest

from services.local.kafka.configs import NOT_HONOURED, TopicConfig, decode_config, encode_config
from services.local.kafka.errors import ErrorCode, Refused


def test_defaults_are_what_an_unconfigured_topic_has():
    assert decode_config({}) == TopicConfig()
    assert encode_config(TopicConfig()) == {
        "cleanup.policy": "delete",
        "compression.type": "producer",
        "delete.retention.ms": "86400000",
        "max.compaction.lag.ms": "9223372036854775807",
        "max.message.bytes": "1048588",
        "message.timestamp.after.max.ms": "3600000",
        "message.timestamp.before.max.ms": "9223372036854775807",
        "message.timestamp.type": "CreateTime",
        "min.cleanable.dirty.ratio": "0.5",
        "min.compaction.lag.ms": "0",
        "min.insync.replicas": "1",
        "retention.bytes": "-1",
        "retention.ms": "604800000",
        "segment.bytes": "67108864",
        "segment.ms": "604800000",
    }


def test_what_is_encoded_decodes_to_the_same():
    config = decode_config(
        {
            "cleanup.policy": "compact, delete",
            "compression.type": "zstd",
            "retention.ms": "-1",
            "min.cleanable.dirty.ratio": "0.1",
            "message.timestamp.type": "LogAppendTime",
        }
    )

    assert decode_config(encode_config(config)) == config
    assert (config.is_compacted, config.expires, config.uses_append_time, config.codec) == (
        True,
        True,
        True,
        4,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bogus", "1"),
        ("retention.ms", "soon"),
        ("retention.ms", "-2"),
        ("cleanup.policy", "shred"),
        ("compression.type", "rar"),
        ("min.cleanable.dirty.ratio", "1.5"),
        ("min.cleanable.dirty.ratio", "nan"),
        ("message.timestamp.type", "createtime"),
        ("max.compaction.lag.ms", "0"),
        ("segment.bytes", "1048575"),
        ("segment.bytes", "2147483648"),
        ("segment.ms", "9223372036854775808"),
    ],
)
def test_unknown_names_and_impossible_values_are_refused(name, value):
    with pytest.raises(Refused, match=name) as caught:
        decode_config({name: value})

    assert caught.value.code == ErrorCode.INVALID_CONFIG


def test_what_is_kafkas_and_not_honoured_is_refused_as_that():
    assert not NOT_HONOURED & encode_config(TopicConfig()).keys()
    with pytest.raises(Refused, match=r"The local Kafka does not honour flush.ms."):
        decode_config({"flush.ms": "1"})


def test_compaction_cannot_be_due_before_it_is_allowed():
    with pytest.raises(Refused, match=r"min\.compaction\.lag\.ms"):
        decode_config({"min.compaction.lag.ms": "6", "max.compaction.lag.ms": "5"})


def test_a_topic_may_have_no_policy():
    config = decode_config({"cleanup.policy": ""})

    assert (config.is_compacted, config.expires, encode_config(config)["cleanup.policy"]) == (
        False,
        False,
        "",
    )


def test_a_compacted_topic_rolls_its_segments_in_time_to_be_compacted():
    bounds = {"segment.ms": "5000", "max.compaction.lag.ms": "100"}

    found = [decode_config({**bounds, "cleanup.policy": policy}).roll_ms for policy in ("compact", "delete")]

    assert found == [100, 5_000]
