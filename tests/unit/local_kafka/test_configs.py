import pytest

from services.local.kafka.configs import TopicConfig, decode_config, encode_config
from services.local.kafka.errors import ErrorCode, Refused


def test_defaults_are_what_an_unconfigured_topic_has():
    assert decode_config({}) == TopicConfig()
    assert encode_config(TopicConfig()) == {
        "cleanup.policy": "delete",
        "compression.type": "producer",
        "delete.retention.ms": "86400000",
        "max.message.bytes": "1048588",
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
        ("segment.bytes", "99999999999999999999"),
    ],
)
def test_unknown_names_and_impossible_values_are_refused(name, value):
    with pytest.raises(Refused, match=name) as caught:
        decode_config({name: value})

    assert caught.value.code == ErrorCode.INVALID_CONFIG
