"""The spool keeps what was appended until it is forgotten, across processes, and never numbers twice."""

import contextlib
import errno
import os
import resource
import uuid

import pytest
from structlog.testing import capture_logs

from services.runtime.errors import StartRefused
from services.runtime.records import OutgoingRecord
from services.runtime.spool.adoption import abandoned, open_spools
from services.runtime.spool.frames import ADDED, CLOSED, HEAD_BYTES, OPENED, STARTED
from services.runtime.spool.segment import SpoolFailed, segment_paths
from services.runtime.spool.store import SEGMENTS_MIN, Entry, Spool, SpoolFull
from services.runtime.spool.survey import surveyed

MIB = 1024 * 1024


def record(text, key=b"k"):
    return OutgoingRecord("gateway.usage.v1", key, text.encode(), (("ce_id", b"1"), ("traceparent", b"t")))


def opened(directory, bytes_max=MIB):
    return Spool(directory, bytes_max)


def abandon(spool):
    """Leave a spool as a process does that is killed: nothing is tidied, and the lock is gone."""
    os.close(spool._lock)
    os.close(spool._file)


def state(spool):
    return spool.entries, spool.open_exchanges, spool.appended, spool.bytes


def on_disk(directory):
    return sum(path.stat().st_size for path in segment_paths(directory))


@contextlib.contextmanager
def files_of_at_most(size):
    """Let files of this process grow to so many bytes, as a full disk would: short writes, then errors."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_is_appended_is_read_back_in_order(tmp_path):
    spool = opened(tmp_path / "0000")
    entries = [
        Entry(1, "a", OPENED, (record("1"),)),
        Entry(2, "b", OPENED, (record("2", None),)),
        Entry(3, "a", STARTED, (record("3"),)),
        Entry(4, "a", CLOSED, (record("4"), record("5"))),
    ]
    seqs = [spool.append(each.exchange, each.stage, each.records) for each in entries]
    assert seqs == [1, 2, 3, 4]
    assert spool.read(0, 10) == entries
    assert (spool.read(0, 2), spool.read(2, 1), spool.read(4, 5)) == (entries[:2], entries[2:3], [])
    assert (spool.entries_of("a"), spool.entries_of("b"), spool.unclosed()) == ([], entries[1:2], ["b"])
    spool.close()


def test_an_entry_longer_than_what_is_read_at_once_is_read_whole(tmp_path):
    spool = opened(tmp_path / "0000", 1 << 30)
    long = record("x" * 700_000)
    for number in range(12):
        spool.append(str(number), CLOSED, [long])
    found = []
    while len(found) < 12:
        came = spool.read(found[-1].seq if found else 0, 500)
        assert 0 < len(came) < 12  # and not more than fits memory
        found += came
    assert [(each.seq, each.records) for each in found] == [(seq, (long,)) for seq in range(1, 13)]
    spool.close()


def test_what_is_open_stays_after_kafka_has_it_until_it_is_closed(tmp_path):
    spool = opened(tmp_path / "0000")
    spool.append("a", OPENED, [record("1")])
    spool.append("b", OPENED, [record("2")])
    spool.forget(2)
    assert (spool.entries, spool.open_exchanges) == (0, 2)
    abandon(spool)
    spool = opened(tmp_path / "0000")
    assert (spool.entries, spool.unclosed(), spool.read(spool.acknowledged, 10)) == (0, ["a", "b"], [])
    spool.append("a", CLOSED, [record("3")])
    assert spool.entries_of("b") == [Entry(2, "b", OPENED, (record("2"),))]
    assert spool.read(spool.acknowledged, 10) == [Entry(3, "a", CLOSED, (record("3"),))]
    spool.append("b", CLOSED, [])
    spool.forget(4)
    spool.close()
    spool = opened(tmp_path / "0000")
    assert state(spool) == (0, 0, 4, HEAD_BYTES)
    spool.close()


def test_what_is_added_is_published_in_its_turn_and_neither_opens_nor_closes(tmp_path):
    spool = opened(tmp_path / "0000")
    spool.append("a", OPENED, [record("1")])
    spool.append("a", ADDED, [record("2")])
    spool.append("b", ADDED, [record("3")])
    spool.forget(1)
    abandon(spool)
    (survey,) = surveyed(tmp_path)
    assert (survey.entries, survey.open_exchanges) == (2, 1)
    spool = opened(tmp_path / "0000")
    assert (spool.unclosed(), spool.entries_of("a")) == (["a"], [Entry(1, "a", OPENED, (record("1"),))])
    added = [Entry(2, "a", ADDED, (record("2"),)), Entry(3, "b", ADDED, (record("3"),))]
    assert spool.read(spool.acknowledged, 10) == added
    spool.append("a", CLOSED, [])
    spool.forget(4)
    spool.close()
    spool = opened(tmp_path / "0000")
    assert state(spool) == (0, 0, 4, HEAD_BYTES)
    spool.close()


def test_a_spool_that_is_opened_again_goes_on_where_it_was(tmp_path):
    first = opened(tmp_path / "0000")
    source_id = first.source_id
    first.append("a", OPENED, [record("1")])
    first.append("b", OPENED, [record("2")])
    first.forget(1)
    first.append("b", CLOSED, [record("3")])
    before = state(first)
    kept = first.read(1, 10)
    first.close()

    second = opened(tmp_path / "0000")
    assert (second.source_id, second.acknowledged, state(second)) == (source_id, 1, before)
    assert (second.read(1, 10), second.unclosed(), len(second.entries_of("a"))) == (kept, ["a"], 1)
    assert second.append("a", CLOSED, []) == 4
    second.forget(4)
    assert state(second)[:3] == (0, 0, 4)
    second.close()


def test_a_number_is_never_used_twice(tmp_path):
    for expected in (1, 2, 3):
        spool = opened(tmp_path / "0000")
        assert spool.append("a", CLOSED, []) == expected
        spool.forget(expected)
        assert (spool.entries, spool.appended) == (0, expected)
        spool.close()


def test_a_spool_that_lost_its_numbers_begins_under_another_id(tmp_path):
    spool = opened(tmp_path / "0000")
    spool.append("a", CLOSED, [])
    lost = spool.source_id
    spool.close()
    for path in segment_paths(tmp_path / "0000"):
        path.unlink()
    spool = opened(tmp_path / "0000")
    assert (spool.append("b", CLOSED, []), spool.source_id != lost) == (1, True)
    spool.close()


def test_the_id_lasts_and_is_a_uuid(tmp_path):
    ids = []
    for _ in range(2):
        spool = opened(tmp_path / "0000")
        ids.append(spool.source_id)
        spool.close()
    other = opened(tmp_path / "0001")
    assert (ids[0] == ids[1] != other.source_id, uuid.UUID(ids[0]).version) == (True, 7)
    other.close()


def test_a_full_spool_begins_nothing_and_lets_everything_end(tmp_path):
    spool = opened(tmp_path / "0000", bytes_max=200)
    spool.append("a", OPENED, [record("x" * 200)])
    assert spool.is_full
    with pytest.raises(SpoolFull):
        spool.append("b", OPENED, [record("1")])
    assert (spool.append("a", STARTED, [record("2")]), spool.append("a", CLOSED, [record("3")])) == (2, 3)
    spool.forget(3)
    assert (spool.is_full, spool.append("b", OPENED, [record("1")])) == (False, 4)
    spool.close()


def test_the_files_take_what_the_spool_says_and_never_much_more_than_its_limit(tmp_path):
    """One exchange stays open all the while: it may not keep the files of those that come and go."""
    limit, longest = 64 * 1024, 0
    spool = opened(tmp_path / "0000", limit)
    spool.append("stays", OPENED, [record("stays")])
    for number in range(2_000):
        spool.append(str(number), OPENED, [record("x" * 100)])
        spool.append(str(number), CLOSED, [record("x" * 100)])
        if number % 10 == 9:
            spool.forget(spool.appended)
            assert spool.bytes == on_disk(tmp_path / "0000")
            longest = max(longest, spool.bytes)
    assert spool.entries_of("stays") == [Entry(1, "stays", OPENED, (record("stays"),))]
    assert longest <= limit / SEGMENTS_MIN * 3
    spool.close()


def test_a_directory_has_one_owner(tmp_path):
    owner = opened(tmp_path / "0000")
    with pytest.raises(StartRefused, match="belongs to another running process"):
        opened(tmp_path / "0000")
    owner.close()
    opened(tmp_path / "0000").close()


@pytest.mark.parametrize("room", [0, 1, 20])
def test_a_full_disk_fails_the_append_and_nothing_else(tmp_path, room):
    spool = opened(tmp_path / "0000")
    spool.append("a", OPENED, [record("1")])
    with files_of_at_most(spool.bytes + room), pytest.raises(SpoolFailed, match=r"000001\.segment"):
        spool.append("b", OPENED, [record("2")])
    assert spool.append("a", CLOSED, [record("3")]) == 2
    assert [each.exchange for each in spool.read(0, 10)] == ["a", "a"]
    abandon(spool)
    spool = opened(tmp_path / "0000")
    assert [each.seq for each in spool.read(0, 10)] == [1, 2]
    spool.close()


def test_a_disk_without_room_for_another_file_goes_on_in_the_old_one(tmp_path):
    spool = opened(tmp_path / "0000", 4_000)
    with contextlib.suppress(SpoolFailed), files_of_at_most(HEAD_BYTES - 1):
        spool._rotate()
    assert [each.name for each in segment_paths(tmp_path / "0000")] == ["000000000001.segment"]
    assert spool.append("a", CLOSED, [record("1")]) == 1
    spool.close()


def test_a_disk_that_does_not_take_the_note_frees_the_room_all_the_same(tmp_path):
    spool = opened(tmp_path / "0000", 4_000)
    for number in range(20):
        spool.append(str(number), CLOSED, [record("x" * 100)])
    with files_of_at_most(1), pytest.raises(SpoolFailed):
        spool.forget(20)
    assert (spool.entries, len(segment_paths(tmp_path / "0000"))) == (0, 1)
    spool.close()


def test_what_lay_in_a_file_that_is_gone_was_acknowledged_also_where_no_note_says_so(tmp_path):
    """A process may die between the deletion of a file and the note of how far Kafka is."""
    spool = opened(tmp_path / "0000", 4_000)
    for number in range(20):
        spool.append(str(number), CLOSED, [record("x" * 100)])
    with files_of_at_most(1), pytest.raises(SpoolFailed):
        spool.forget(19)
    left = [entry.seq for entry in spool.read(0, 20)]
    abandon(spool)
    spool = opened(tmp_path / "0000", 4_000)
    assert (left[0] > 1, left[-1], spool.acknowledged) == (True, 20, left[0] - 1)
    assert [entry.seq for entry in spool.read(spool.acknowledged, 20)] == left
    spool.close()


def test_what_a_crash_tore_off_is_cut_and_said(tmp_path):
    spool = opened(tmp_path / "0000")
    spool.append("a", OPENED, [record("1")])
    whole = spool.bytes
    spool.append("a", CLOSED, [record("2")])
    abandon(spool)
    (path,) = segment_paths(tmp_path / "0000")
    os.truncate(path, whole + 7)
    with capture_logs() as logged:
        spool = opened(tmp_path / "0000")
    assert [(each["event"], each["torn_bytes"]) for each in logged] == [("spool.torn_tail_found", 7)]
    assert (spool.unclosed(), spool.append("a", CLOSED, []), path.stat().st_size > whole) == (["a"], 2, True)
    spool.close()


@pytest.mark.parametrize("at", [0, 5, HEAD_BYTES, HEAD_BYTES + 30])
def test_a_file_that_is_damaged_before_its_end_is_refused_by_name(tmp_path, at):
    spool = opened(tmp_path / "0000")
    spool.append("a", OPENED, [record("1")])
    spool.append("b", OPENED, [record("2")])
    abandon(spool)
    (path,) = segment_paths(tmp_path / "0000")
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(StartRefused, match=r"the spool .*/0000 is damaged: byte \d+ of .*000001\.segment"):
        open_spools(tmp_path, MIB)
    assert path.read_bytes() == bytes(content)


def test_a_file_that_is_none_of_ours_is_refused_and_not_passed_over(tmp_path):
    opened(tmp_path / "0000").close()
    (path,) = segment_paths(tmp_path / "0000")
    path.write_bytes(b"no segment, but somebody's events" * 200)
    with pytest.raises(StartRefused, match=r"is damaged: .*Move that file away to start without"):
        open_spools(tmp_path, MIB)


def test_a_spool_of_an_older_release_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "0000").mkdir()
    (tmp_path / "0000" / "lock").touch()
    (tmp_path / "0000" / "spool.sqlite3").touch()
    with pytest.raises(StartRefused, match=r"written by an older release .* then delete the file"):
        open_spools(tmp_path, MIB)


def test_a_file_that_becomes_unreadable_fails_the_reading_and_not_the_appending(tmp_path):
    spool = opened(tmp_path / "0000")
    spool.append("a", OPENED, [record("1")])
    (path,) = segment_paths(tmp_path / "0000")
    path.rename(path.with_suffix(".away"))
    with pytest.raises(SpoolFailed, match=f"cannot be read: {os.strerror(errno.ENOENT)}"):
        spool.read(0, 1)
    path.with_suffix(".away").rename(path)
    assert (spool.append("a", CLOSED, []), len(spool.read(0, 2))) == (2, 2)
    spool.close()


def test_the_first_process_makes_the_first_directory_and_the_next_one_the_next(tmp_path):
    first, none = open_spools(tmp_path / "spools", MIB)
    second, none_again = open_spools(tmp_path / "spools", MIB)
    assert [first.directory.name, second.directory.name, none, none_again] == ["0000", "0001", [], []]
    first.close()
    second.close()


def test_a_restart_in_place_goes_on_under_the_same_id(tmp_path):
    before, _ = open_spools(tmp_path, MIB)
    before.append("a", OPENED, [record("1")])
    source_id = before.source_id
    before.close()
    after, adopted = open_spools(tmp_path, MIB)
    assert (after.source_id, after.unclosed(), adopted) == (source_id, ["a"], [])
    after.close()


def test_dead_siblings_with_entries_are_adopted_and_living_ones_are_left_alone(tmp_path):
    living, dead, empty = (opened(tmp_path / name) for name in ("0000", "0002", "0003"))
    free = opened(tmp_path / "0001")
    living.append("living", OPENED, [record("1")])
    dead.append("dead", OPENED, [record("2")])
    dead_id = dead.source_id
    for spool in (dead, empty, free):
        spool.close()
    assert abandoned(tmp_path) == {tmp_path / "0002"}

    own, adopted = open_spools(tmp_path, MIB)
    assert own.directory.name == "0001"
    assert [(each.directory.name, each.source_id, each.unclosed()) for each in adopted] == [
        ("0002", dead_id, ["dead"])
    ]
    opened(tmp_path / "0003").close()  # one without entries is given back at once
    for spool in (living, own, *adopted):
        spool.close()


def test_a_spool_root_that_is_no_directory_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StartRefused, match="cannot be made: Not a directory"):
        open_spools(tmp_path / "file" / "spool", 1000)


def test_a_survey_tells_what_lies_in_every_spool_without_touching_it(tmp_path):
    living, dead = opened(tmp_path / "0000"), opened(tmp_path / "0001")
    for spool in (living, dead):
        spool.append("01940000-0000-7000-8000-000000000001", OPENED, [record("1")])
        spool.append("01940000-0001-7000-8000-000000000001", OPENED, [record("2")])
        spool.append("01940000-0000-7000-8000-000000000001", CLOSED, [record("3")])
        spool.forget(1)
    dead.close()
    damaged = tmp_path / "0002"
    opened(damaged).close()
    segment_paths(damaged)[0].write_bytes(b"?" * 100)
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*")}
    found = list(surveyed(tmp_path))
    assert {path: path.read_bytes() for path in tmp_path.glob("*/*")} == before
    assert [
        (each.directory.name, each.is_held, each.entries, each.open_exchanges, each.bytes, bool(each.fault))
        for each in found
    ] == [
        ("0000", True, 2, 1, living.bytes, False),
        ("0001", False, 2, 1, living.bytes, False),
        ("0002", False, 0, 0, 100, True),
    ]
    assert [each.oldest_at and each.oldest_at.timestamp() for each in found] == [
        0x01940000_0000 / 1000,
        0x01940000_0000 / 1000,
        None,
    ]
    living.close()
