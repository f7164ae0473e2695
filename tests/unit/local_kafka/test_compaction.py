import threading

import pytest

from services.local.kafka import compaction
from services.local.kafka.batch import ProducerId, header_at
from services.local.kafka.configs import TopicConfig
from services.local.kafka.files import SegmentFiles
from services.local.kafka.log import PartitionLog
from tests.unit.local_kafka.batches import NOW_MS, batch, offsets_and_values
from tests.unit.local_kafka.test_log import read_all

DEFAULTS = {"cleanup_policy": frozenset({"compact"}), "segment_bytes": 150, "min_cleanable_dirty_ratio": 0.0}


class Cleaning:
    """A compacted log that is cleaned when the test says so."""

    def __init__(self, directory):
        self.directory = directory
        self.log = None

    def open(self, **config):
        config = TopicConfig(**{**DEFAULTS, **config})
        self.log = PartitionLog(self.directory, config, SegmentFiles())
        return self.log

    def put(self, key, value, timestamp_ms=NOW_MS, **kwargs):
        return self.log.append(batch(value, keys=[key], timestamps_ms=[timestamp_ms], **kwargs), NOW_MS)

    def clean(self, now_ms=NOW_MS, keys_max=compaction.KEYS_MAX):
        plan = compaction.plan(self.log, now_ms)
        if plan is None:
            return False
        compaction.install(plan, compaction.rewrite(plan, threading.Event(), keys_max), now_ms)
        return True

    def roll(self):
        """Close the active segment by filling the next one."""
        self.put(b"filler", b"x" * 300)


@pytest.fixture
def cleaning(tmp_path):
    return Cleaning(tmp_path / "t-0")


def test_only_the_last_record_of_each_key_is_kept_under_its_own_offset(cleaning):
    log = cleaning.open()
    for number in range(12):
        cleaning.put(b"k%d" % (number % 3), b"v%d" % number * 10)
    cleaning.roll()

    assert cleaning.clean()

    kept = read_all(log)
    assert kept == [(9, b"v9" * 10), (10, b"v10" * 10), (11, b"v11" * 10), (12, b"x" * 300)]
    assert (log.start_offset, log.end_offset) == (0, 13)
    assert read_all(cleaning.open()) == kept


def test_records_of_one_batch_are_thinned_out(cleaning):
    log = cleaning.open()
    log.append(batch(b"1", b"2", b"3", keys=[b"a", b"b", b"a"], producer=(4, 0, 0)), NOW_MS)
    cleaning.roll()

    cleaning.clean()

    assert offsets_and_values(log.read(0, 3, 1)) == [(1, b"2"), (2, b"3")]
    repeated = batch(b"1", b"2", b"3", keys=[b"a", b"b", b"a"], producer=(4, 0, 0))
    assert cleaning.open().append(repeated, NOW_MS).base_offset == 0


def test_a_clean_log_is_not_cleaned_again(cleaning):
    cleaning.open()
    for number in range(6):
        cleaning.put(b"k", b"v%d" % number * 20)
    cleaning.roll()

    assert [cleaning.clean(), cleaning.clean()] == [True, False]
    cleaning.open()
    assert not cleaning.clean()


def test_the_dirty_ratio_decides_when_it_is_worth_it(cleaning):
    cleaning.open(min_cleanable_dirty_ratio=0.5)
    for number in range(10):
        cleaning.put(b"k%d" % number, b"v" * 100)
    cleaning.roll()
    first = cleaning.clean()
    cleaning.put(b"k1", b"w" * 100)
    cleaning.roll()

    assert (first, cleaning.clean()) == (True, False)


def test_what_is_dirty_for_too_long_is_worth_it_at_any_ratio(cleaning):
    cleaning.open(min_cleanable_dirty_ratio=1.0, max_compaction_lag_ms=5_000)
    cleaning.put(b"k", b"v" * 100)
    cleaning.roll()

    assert [cleaning.clean(NOW_MS + late_ms) for late_ms in (5_000, 5_001, 99_999)] == [False, True, False]


@pytest.mark.parametrize("codec", [0, 1, 4])
def test_a_producers_last_batch_stays_as_an_empty_one_so_that_its_sequence_is_known(cleaning, codec):
    log = cleaning.open()
    for number in range(2):
        cleaning.put(b"k", b"v" * 100, producer=(4, 0, number), codec=codec)
    cleaning.put(b"k", b"w" * 100)
    cleaning.roll()

    cleaning.clean()

    assert read_all(log)[:1] == [(2, b"w" * 100)]
    header = header_at(log.read(0, 2, 1))
    assert (header.base_offset, header.record_count, header.max_timestamp) == (1, 0, NOW_MS)
    reopened = cleaning.open()
    following = batch(b"next", keys=[b"k"], producer=(4, 0, 2))
    assert reopened.append(following, NOW_MS).base_offset == log.end_offset


def test_young_records_wait_for_the_compaction_lag(cleaning):
    log = cleaning.open(min_compaction_lag_ms=1_000)
    for number in range(4):
        cleaning.put(b"k", b"%d" % number * 100, timestamp_ms=NOW_MS - 500 + number)
    cleaning.roll()

    assert not cleaning.clean(NOW_MS)
    assert cleaning.clean(NOW_MS + 503)
    assert [offset for offset, _ in read_all(log)] == [3, 4]


def test_a_tombstone_is_kept_for_its_time_after_the_first_cleaning_and_then_goes(cleaning):
    log = cleaning.open(delete_retention_ms=1_000)
    cleaning.put(b"k", b"v" * 100, timestamp_ms=1)
    cleaning.put(b"k", None, timestamp_ms=2)
    cleaning.roll()

    cleaning.clean(NOW_MS)
    after_first = read_all(log)
    too_early = cleaning.clean(NOW_MS + 999)
    due = cleaning.clean(NOW_MS + 1_000)
    again = cleaning.clean(NOW_MS + 2_000)

    assert after_first == [(1, None), (2, b"x" * 300)]
    assert (too_early, due, again) == (False, True, False)
    assert read_all(log) == [(2, b"x" * 300)]
    assert (log.start_offset, log.end_offset) == (0, 3)


def test_small_rests_are_merged_at_the_next_cleaning(cleaning):
    log = cleaning.open(segment_bytes=400)
    counts = []
    for _ in range(2):
        for number in range(60):
            cleaning.put(b"k%d" % (number % 2), b"%d" % number * 40)
        counts.append(len(log.segments))
        cleaning.clean()

    assert counts[0] > 10
    assert log.segments[1].base_offset > 50
    assert len(list(cleaning.directory.glob("*.log"))) == len(log.segments) < sum(counts) // 2
    assert read_all(cleaning.open()) == read_all(log)


def test_a_merge_cut_by_a_crash_leaves_no_doubles(cleaning):
    log = cleaning.open(segment_bytes=400)
    for number in range(20):
        cleaning.put(b"k%d" % number, b"v" * 60)
    old = {segment.path: segment.path.read_bytes() for segment in log.segments}
    cleaning.log.config = TopicConfig(**{**DEFAULTS, "segment_bytes": 10_000})
    expected = read_all(log)
    cleaning.clean()
    for path, data in old.items():
        if not path.exists():
            path.write_bytes(data)
    (cleaning.directory / "00000000000000000003.log.cleaned").write_bytes(b"half")

    assert read_all(cleaning.open()) == expected
    assert not list(cleaning.directory.glob("*.cleaned"))


def test_more_keys_than_fit_are_cleaned_in_several_passes(cleaning):
    log = cleaning.open()
    for number in range(30):
        cleaning.put(b"k%d" % (number % 10), b"%02d" % number * 40)
    cleaning.roll()

    passes = 0
    while cleaning.clean(keys_max=4):
        passes += 1

    assert passes > 1
    assert [offset for offset, _ in read_all(log)] == [*range(20, 30), 30]


def test_aborted_records_neither_survive_nor_supersede(cleaning):
    log = cleaning.open()
    cleaning.put(b"k", b"kept" * 30)
    cleaning.put(b"k", b"aborted" * 20, producer=(4, 0, 0), transactional=True)
    log.end_transaction(ProducerId(4), 0, False, NOW_MS)
    cleaning.put(b"k2", b"committed" * 10, producer=(4, 0, 1), transactional=True)
    log.end_transaction(ProducerId(4), 0, True, NOW_MS)
    cleaning.roll()

    cleaning.clean()

    values = [value for _, value in read_all(log)]
    assert b"kept" * 30 in values
    assert b"committed" * 10 in values
    assert b"aborted" * 20 not in values


def test_nothing_behind_an_open_transaction_is_touched(cleaning):
    cleaning.open()
    cleaning.put(b"k", b"a" * 200, producer=(4, 0, 0), transactional=True)
    cleaning.put(b"k", b"b" * 200)
    cleaning.roll()

    assert not cleaning.clean()


def test_a_log_that_was_trimmed_meanwhile_is_left_alone(cleaning):
    log = cleaning.open()
    for number in range(6):
        cleaning.put(b"k", b"v%d" % number * 60)
    plan = compaction.plan(log, NOW_MS)
    result = compaction.rewrite(plan, threading.Event())
    log.trim(3)
    expected = read_all(log, 3)

    compaction.install(plan, result, NOW_MS)

    assert read_all(log, 3) == expected
    assert not list(cleaning.directory.glob("*.cleaned"))


def test_a_stopping_broker_gives_up_a_cleaning(cleaning):
    log = cleaning.open()
    cleaning.put(b"k", b"v" * 200)
    cleaning.roll()
    stopping = threading.Event()
    stopping.set()

    with pytest.raises(compaction.CompactionCancelled):
        compaction.rewrite(compaction.plan(log, NOW_MS), stopping)


def test_topics_that_only_delete_are_never_cleaned(cleaning):
    cleaning.open(cleanup_policy=frozenset({"delete"}))
    cleaning.put(b"k", b"v" * 200)
    cleaning.roll()

    assert not cleaning.clean()
