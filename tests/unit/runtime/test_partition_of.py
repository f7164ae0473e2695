"""The partition of a key is the one that Kafka's Java clients choose, for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.publisher import partition_of

# Pairs from the tests of Apache Kafka's own murmur2 (org.apache.kafka.common.utils.UtilsTest).
MURMUR2 = [
    (b"21", -973932308),
    (b"foobar", -790332482),
    (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107),
]
INT_MAX = 2**31 - 1


@pytest.mark.parametrize(("key", "murmur2"), MURMUR2)
@pytest.mark.parametrize("partitions", [1, 6, 12, INT_MAX])
def test_a_key_goes_where_kafka_puts_it(key, murmur2, partitions):
    assert partition_of(key, partitions) == (murmur2 & INT_MAX) % partitions


def test_a_record_without_a_key_goes_to_the_first_partition():
    assert partition_of(None, 12) == 0


@given(st.binary(max_size=200), st.integers(1, 1000))
def test_every_key_has_one_partition_and_it_exists(key, partitions):
    chosen = partition_of(key, partitions)
    assert 0 <= chosen < partitions
    assert partition_of(bytes(bytearray(key)), partitions) == chosen
