import os

import msgspec
import pytest

from services.local.kafka.batch import ProducerId, control_batch, header_at, records_of
from services.local.kafka.configs import TopicConfig
from services.local.kafka.errors import ErrorCode, Refused
from services.local.kafka.files import SegmentFiles
from services.local.kafka.log import Appended, PartitionLog, TimedOffset
from tests.unit.local_kafka.batches import NOW_MS, batch, end_offset, offsets_and_values

EVERYTHING = 1 << 40


class Logs:
    """Opens and reopens one log."""

    def __init__(self, directory):
        self.directory = directory

    def open(self, **config):
        return PartitionLog(self.directory, TopicConfig(**config), SegmentFiles(open_max=3))


@pytest.fixture
def logs(tmp_path):
    return Logs(tmp_path / "t-0")


def read_all(log, offset=0):
    found = []
    while offset < log.end_offset:
        data = log.read(offset, log.end_offset, 1)
        if not data:
            break
        found += [item for item in offsets_and_values(data) if item[0] >= offset]
        offset = end_offset(data)
    return found


def refusal(log, data, now_ms=NOW_MS):
    with pytest.raises(Refused) as caught:
        log.append(data, now_ms)
    return caught.value.code


def test_what_is_appended_is_read_back_under_ascending_offsets(logs):
    log = logs.open()

    assert log.append(batch(b"a", b"b"), NOW_MS) == Appended(base_offset=0, append_time_ms=-1)
    assert log.append(batch(b"c"), NOW_MS) == Appended(base_offset=2, append_time_ms=-1)

    assert offsets_and_values(log.read(0, 3, EVERYTHING)) == [(0, b"a"), (1, b"b"), (2, b"c")]
    assert offsets_and_values(log.read(2, 3, EVERYTHING)) == [(2, b"c")]
    assert log.read(3, 3, EVERYTHING) == b""
    assert (log.start_offset, log.end_offset) == (0, 3)


def test_a_read_gives_whole_batches_within_its_limit_but_always_one(logs):
    log = logs.open()
    for value in (b"a" * 500, b"b" * 500, b"c" * 500):
        log.append(batch(value), NOW_MS)
    size = len(batch(b"a" * 500))

    assert [offset for offset, _ in offsets_and_values(log.read(0, 3, 2 * size + 10))] == [0, 1]
    assert [offset for offset, _ in offsets_and_values(log.read(1, 3, 1))] == [1]
    assert [offset for offset, _ in offsets_and_values(log.read(0, 2, EVERYTHING))] == [0, 1]


def test_every_offset_is_found_across_index_entries_and_segments(logs):
    log = logs.open(segment_bytes=200_000)
    for number in range(900):
        log.append(batch(*[b"%d" % number] * (number % 3 + 1), b"x" * (number % 7) * 300), NOW_MS)
    assert len(log.segments) > 3

    everything = read_all(log)

    assert [offset for offset, _ in everything] == list(range(log.end_offset))
    for offset in range(0, log.end_offset, 17):
        data = log.read(offset, log.end_offset, 4_000)
        first = header_at(data)
        assert first.base_offset <= offset <= first.last_offset
    assert read_all(logs.open()) == everything


@pytest.mark.parametrize("torn_bytes", [1, 11, 60, 61, 70])
def test_a_torn_tail_is_cut_off_when_the_log_is_opened(logs, torn_bytes):
    log = logs.open()
    log.append(batch(b"a"), NOW_MS)
    log.append(batch(b"b"), NOW_MS)
    with log.segments[-1].path.open("ab") as file:
        file.write(batch(b"never acknowledged" * 10)[:torn_bytes])

    reopened = logs.open()

    assert (read_all(reopened), reopened.end_offset) == ([(0, b"a"), (1, b"b")], 2)
    assert reopened.append(batch(b"c"), NOW_MS).base_offset == 2
    assert read_all(logs.open()) == [(0, b"a"), (1, b"b"), (2, b"c")]


def test_a_flipped_bit_in_the_last_batch_cuts_the_log_before_it(logs):
    log = logs.open()
    log.append(batch(b"a"), NOW_MS)
    log.append(batch(b"b" * 100), NOW_MS)
    path = log.segments[-1].path
    damaged = bytearray(path.read_bytes())
    damaged[-5] ^= 1
    path.write_bytes(damaged)

    assert read_all(logs.open()) == [(0, b"a")]


def test_batches_that_break_the_rules_are_refused_and_leave_no_trace(logs):
    log = logs.open(max_message_bytes=1_000)
    good = batch(b"a", b"b")
    wrong_count = bytearray(good)
    damaged = good[:-1] + bytes([good[-1] ^ 1])
    wrong_count[60] = 1

    codes = [
        refusal(log, b""),
        refusal(log, damaged),
        refusal(log, good[:-3]),
        refusal(log, good + good),
        refusal(log, batch(b"x" * 1_000)),
        refusal(log, control_batch(ProducerId(1), 0, True, NOW_MS)),
        refusal(log, batch(b"a", timestamps_ms=[NOW_MS + 3_600_001])),
    ]

    assert codes == [
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.INVALID_RECORD,
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.INVALID_RECORD,
        ErrorCode.INVALID_TIMESTAMP,
    ]
    assert (log.end_offset, log.segments) == (0, [])


def test_stamps_too_far_from_now_are_refused_wherever_they_stand_in_a_batch(logs):
    log = logs.open(message_timestamp_before_max_ms=1_000, message_timestamp_after_max_ms=2_000)

    taken = [(NOW_MS - 1_000, NOW_MS + 2_000), (NOW_MS, -1)]
    refused = [(NOW_MS, NOW_MS - 1_001), (NOW_MS + 2_001, NOW_MS)]

    for stamps in taken:
        log.append(batch(b"a", b"b", timestamps_ms=list(stamps), codec=4), NOW_MS)
    codes = [refusal(log, batch(b"a", b"b", timestamps_ms=list(stamps), codec=4)) for stamps in refused]
    assert (codes, log.end_offset) == ([ErrorCode.INVALID_TIMESTAMP] * 2, 4)


def test_a_compacted_topic_refuses_records_without_a_key(logs):
    log = logs.open(cleanup_policy=frozenset({"compact"}))

    assert refusal(log, batch(b"a", keys=[None])) == ErrorCode.INVALID_RECORD
    assert log.append(batch(b"a", keys=[b"k"]), NOW_MS).base_offset == 0


def test_append_time_replaces_the_producers_time(logs):
    log = logs.open(message_timestamp_type="LogAppendTime")

    appended = log.append(batch(b"a", timestamps_ms=[5]), NOW_MS)

    (record,) = records_of(log.read(0, 1, EVERYTHING))
    assert (appended, record.timestamp_ms) == (Appended(base_offset=0, append_time_ms=NOW_MS), NOW_MS)
    assert log.offset_at_time(NOW_MS) == TimedOffset(offset=0, timestamp_ms=NOW_MS)


def test_a_topics_codec_replaces_the_producers(logs):
    log = logs.open(compression_type="zstd")
    log.append(batch(b"a" * 100, b"b", codec=1), NOW_MS)

    data = log.read(0, 2, EVERYTHING)

    assert header_at(data).codec == 4
    assert offsets_and_values(data) == [(0, b"a" * 100), (1, b"b")]


def test_times_are_found_to_the_record_even_out_of_order(logs):
    log = logs.open(segment_bytes=400)
    for times in ([10, 20, 30], [5, 6], [25, 60], [40]):
        log.append(batch(*[b"v"] * len(times), timestamps_ms=times), NOW_MS)

    found = {time: log.offset_at_time(time) for time in (0, 15, 31, 60, 61)}

    assert found == {
        0: TimedOffset(offset=0, timestamp_ms=10),
        15: TimedOffset(offset=1, timestamp_ms=20),
        31: TimedOffset(offset=6, timestamp_ms=60),
        60: TimedOffset(offset=6, timestamp_ms=60),
        61: None,
    }


def test_trimming_moves_the_start_for_good(logs):
    log = logs.open(segment_bytes=200)
    for number in range(10):
        log.append(batch(b"%d" % number * 50), NOW_MS)

    log.trim(7)

    assert (log.start_offset, log.end_offset) == (7, 10)
    assert len(log.segments) < 6
    reopened = logs.open()
    assert (reopened.start_offset, reopened.end_offset, reopened.offset_at_time(0)) == (
        7,
        10,
        TimedOffset(offset=7, timestamp_ms=NOW_MS),
    )


def test_an_emptied_log_goes_on_where_it_ended(logs):
    log = logs.open()
    log.append(batch(b"a", b"b"), NOW_MS)

    log.trim(2)

    assert (log.start_offset, log.end_offset) == (2, 2)
    assert logs.open().append(batch(b"c"), NOW_MS).base_offset == 2


def test_old_segments_expire_by_time_and_the_active_one_with_them(logs):
    log = logs.open(segment_bytes=100, retention_ms=1_000)
    log.append(batch(b"a" * 50, timestamps_ms=[1_000]), NOW_MS)
    log.append(batch(b"b" * 50, timestamps_ms=[5_000]), NOW_MS)

    log.expire(3_000)
    after_first = read_all(log, log.start_offset)
    log.expire(7_000)

    assert after_first == [(1, b"b" * 50)]
    assert (log.start_offset, log.end_offset, read_all(log, 2)) == (2, 2, [])


def test_the_oldest_segments_expire_beyond_the_byte_limit(logs):
    size = len(batch(b"a" * 50))
    log = logs.open(segment_bytes=size, retention_bytes=3 * size)
    for _ in range(10):
        log.append(batch(b"a" * 50), NOW_MS)

    log.expire(NOW_MS)

    assert (log.start_offset, log.end_offset) == (7, 10)


def test_compacted_topics_do_not_expire(logs):
    log = logs.open(cleanup_policy=frozenset({"compact"}), retention_ms=1)
    log.append(batch(b"a", keys=[b"k"]), NOW_MS)

    log.expire(NOW_MS * 2)

    assert log.start_offset == 0


def test_a_segment_is_closed_when_its_time_is_over(logs):
    log = logs.open(segment_ms=1_000)
    for time in (0, 900, 1_001):
        log.append(batch(b"a", timestamps_ms=[time]), NOW_MS)

    assert [segment.base_offset for segment in log.segments] == [0, 2]


def test_an_append_wakes_the_waiters_once_and_nothing_else_does(logs):
    log = logs.open()
    log.append(batch(b"a"), NOW_MS)
    woken = []
    log.wait(lambda: woken.append("now"))

    log.read(0, 1, EVERYTHING)
    log.expire(NOW_MS)
    log.trim(0)
    before = list(woken)
    log.append(batch(b"b"), NOW_MS)
    log.append(batch(b"c"), NOW_MS)

    assert (before, woken) == ([], ["now"])


def test_repeats_of_the_last_five_batches_get_their_first_answer_also_after_a_restart(logs):
    log = logs.open()
    sent = [batch(b"%d" % number, producer=(4, 0, number)) for number in range(7)]
    for data in sent:
        log.append(data, NOW_MS)

    for state in (log, logs.open()):
        answers = [state.append(data, NOW_MS).base_offset for data in sent[2:]]
        assert answers == [2, 3, 4, 5, 6]
        assert refusal(state, sent[1]) == ErrorCode.OUT_OF_ORDER_SEQUENCE
        assert state.end_offset == 7


def test_readers_of_committed_records_stop_at_the_first_open_transaction(logs):
    log = logs.open()
    log.append(batch(b"plain"), NOW_MS)
    log.append(batch(b"tx", producer=(4, 0, 0), transactional=True), NOW_MS)
    log.append(batch(b"plain"), NOW_MS)
    open_stable = log.stable_offset

    log.end_transaction(ProducerId(4), 0, False, NOW_MS)

    for state in (log, logs.open()):
        (span,) = state.aborted_between(0, 4)
        assert (span.producer_id, span.first_offset, span.marker_offset) == (4, 1, 3)
        assert (open_stable, state.stable_offset) == (1, 4)


def test_a_failed_write_is_undone(logs, monkeypatch):
    log = logs.open()
    log.append(batch(b"a"), NOW_MS)
    real_write = os.pwrite

    def half_then_full(descriptor, data, position):
        if len(data) > 40:
            return real_write(descriptor, data[:40], position)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", half_then_full)
    with pytest.raises(OSError, match="No space"):
        log.append(batch(b"lost"), NOW_MS)
    monkeypatch.undo()

    assert log.append(batch(b"b"), NOW_MS).base_offset == 1
    assert read_all(logs.open()) == [(0, b"a"), (1, b"b")]


def test_a_log_holds_few_files_open(logs):
    files = SegmentFiles(open_max=3)
    log = PartitionLog(logs.directory, TopicConfig(segment_bytes=100), files)
    for number in range(20):
        log.append(batch(b"%d" % number * 50), NOW_MS)

    read_all(log)

    assert len(log.segments) == 20
    assert len(files._descriptors) == 3


def test_configuration_changes_apply_to_the_next_batch(logs):
    log = logs.open()
    log.append(batch(b"x" * 2_000), NOW_MS)

    log.config = msgspec.structs.replace(log.config, max_message_bytes=1_000)

    assert refusal(log, batch(b"x" * 2_000)) == ErrorCode.MESSAGE_TOO_LARGE
