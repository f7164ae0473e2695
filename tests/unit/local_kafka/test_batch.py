import pytest

from services.local.kafka import batch as batches
from services.local.kafka.batch import (
    BatchCorrupt,
    ProducerId,
    commits,
    header_at,
    is_whole,
    rebuilt,
    records_of,
)
from tests.unit.local_kafka.batches import NOW_MS, batch


def test_a_batch_keeps_its_checksum_when_an_offset_is_assigned():
    placed = batches.placed_at(batch(b"a", b"b"), 41)

    header = header_at(placed)

    assert (header.base_offset, header.last_offset, header.leader_epoch) == (41, 42, 0)
    assert is_whole(placed, header)


def test_append_time_dates_every_record_and_seals_the_batch_anew():
    placed = batches.placed_at(batch(b"a", b"b", timestamps_ms=[1, 2]), 0)

    batches.stamp_append_time(placed, NOW_MS)

    assert is_whole(placed, header_at(placed))
    assert [record.timestamp_ms for record in records_of(placed)] == [NOW_MS, NOW_MS]


@pytest.mark.parametrize("codec", range(5))
def test_a_rebuilt_batch_keeps_offsets_times_producer_and_codec(codec):
    placed = bytes(batches.placed_at(batch(b"a", b"b", b"c", b"d", producer=(7, 2, 30), codec=codec), 100))
    header = header_at(placed)
    kept = [record for record in records_of(placed) if record.value in (b"b", b"c")]

    again = rebuilt(header, kept, codec)

    head = header_at(again)
    assert list(records_of(again)) == kept
    assert is_whole(again, head)
    assert (head.base_offset, head.last_offset, head.codec) == (100, 103, codec)
    assert (head.producer_id, head.producer_epoch, head.base_sequence, head.last_sequence) == (7, 2, 30, 33)


def test_a_rebuilt_append_time_batch_keeps_its_time():
    placed = batches.placed_at(batch(b"a", b"b", timestamps_ms=[1, 2]), 0)
    batches.stamp_append_time(placed, NOW_MS)
    header = header_at(placed)

    again = rebuilt(header, list(records_of(placed))[1:], 0)

    assert [(record.offset, record.timestamp_ms) for record in records_of(again)] == [(1, NOW_MS)]


@pytest.mark.parametrize("committed", [True, False])
def test_a_control_batch_says_how_its_transaction_ended(committed):
    marker = batches.control_batch(ProducerId(9), 3, committed, NOW_MS)

    header = header_at(marker)

    assert commits(marker) is committed
    assert (header.is_control, header.is_transactional, header.producer_id, header.producer_epoch) == (
        True,
        True,
        9,
        3,
    )
    assert is_whole(marker, header)


def test_bytes_that_are_no_batch_are_called_corrupt():
    whole = batch(b"a")
    for damaged in (b"", whole[:60], whole[:16] + b"\x01" + whole[17:], whole[:8] + b"\xff" * 4 + whole[12:]):
        with pytest.raises(BatchCorrupt):
            header_at(damaged)


def test_records_that_do_not_decode_are_called_corrupt():
    header_says_gzip = bytearray(batch(b"plain"))
    header_says_gzip[22] |= 1

    with pytest.raises(BatchCorrupt):
        list(records_of(header_says_gzip))


def test_a_keyless_record_is_noticed():
    assert batches.every_key_present(batch(b"a", b"b", keys=[b"k", b""]))
    assert not batches.every_key_present(batch(b"a", b"b", keys=[b"k", None]))
