"""The spool keeps what was appended until it is forgotten, across processes, and never numbers twice."""

import sqlite3
import uuid

import pytest

from services.runtime.errors import StartRefused
from services.runtime.records import OutgoingRecord
from services.runtime.spool.adoption import open_spools
from services.runtime.spool.store import CLOSED, DATABASE_NAME, OPENED, STARTED, Entry, Spool, SpoolFull

MIB = 1024 * 1024


def record(text, key=b"k"):
    return OutgoingRecord("gateway.usage.v1", key, text.encode(), (("ce_id", b"1"), ("traceparent", b"t")))


def opened(directory, bytes_max=MIB):
    return Spool(directory, bytes_max)


def state(spool):
    return spool.entries, spool.open_exchanges, spool.appended, spool.bytes


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


def test_an_exchange_is_forgotten_whole_once_it_is_closed(tmp_path):
    spool = opened(tmp_path / "0000")
    spool.append("a", OPENED, [record("1")])
    spool.append("b", OPENED, [record("2")])
    spool.forget(spool.read(0, 10))
    assert (spool.entries, spool.open_exchanges) == (2, 2)
    spool.append("a", STARTED, [record("3")])
    spool.append("a", CLOSED, [record("4")])
    spool.forget(spool.read(3, 10))  # only the closing entry: the others were acknowledged before
    assert spool.read(0, 10) == [Entry(2, "b", OPENED, (record("2"),))]
    spool.append("b", CLOSED, [])
    spool.forget(spool.read(0, 10))
    assert state(spool) == (0, 0, 5, 0)
    spool.close()


def test_a_spool_that_is_opened_again_goes_on_where_it_was(tmp_path):
    first = opened(tmp_path / "0000")
    source_id = first.source_id
    first.append("a", OPENED, [record("1")])
    first.append("b", OPENED, [record("2")])
    first.append("b", CLOSED, [record("3")])
    before = state(first)
    kept = first.read(0, 10)
    first.close()

    second = opened(tmp_path / "0000")
    assert (second.source_id, state(second)) == (source_id, before)
    assert (second.read(0, 10), second.unclosed(), second.entries_of("a")) == (kept, ["a"], kept[:1])
    assert second.append("a", CLOSED, []) == 4
    second.forget(second.read(0, 10))
    assert state(second) == (0, 0, 4, 0)
    second.close()


def test_what_was_appended_outlives_a_process_that_did_not_close(tmp_path):
    dead = opened(tmp_path / "0000")
    dead.append("a", OPENED, [record("1")])
    with sqlite3.connect(tmp_path / "0000" / DATABASE_NAME) as reader:  # as a process that comes after it
        assert reader.execute("SELECT seq, exchange, stage FROM entries").fetchall() == [(1, "a", OPENED)]
    reader.close()
    dead.close()


def test_a_number_is_never_used_twice(tmp_path):
    for expected in (1, 2, 3):
        spool = opened(tmp_path / "0000")
        assert spool.append("a", CLOSED, []) == expected
        spool.forget(spool.read(0, 10))
        assert (spool.entries, spool.appended) == (0, expected)
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
    spool = opened(tmp_path / "0000", bytes_max=100)
    spool.append("a", OPENED, [record("x" * 100)])
    assert spool.is_full
    with pytest.raises(SpoolFull):
        spool.append("b", OPENED, [record("1")])
    assert (spool.append("a", STARTED, [record("2")]), spool.append("a", CLOSED, [record("3")])) == (2, 3)
    spool.forget(spool.read(0, 10))
    assert (spool.is_full, spool.append("b", OPENED, [record("1")])) == (False, 4)
    spool.close()


def test_a_directory_has_one_owner(tmp_path):
    owner = opened(tmp_path / "0000")
    with pytest.raises(StartRefused, match="belongs to another running process"):
        opened(tmp_path / "0000")
    owner.close()
    opened(tmp_path / "0000").close()


def test_a_deletion_that_fails_swallows_no_later_append(tmp_path):
    spool = opened(tmp_path / "0000")
    spool.append("a", OPENED, [record("1")])
    spool.append("a", CLOSED, [record("2")])
    other = sqlite3.connect(tmp_path / "0000" / DATABASE_NAME)
    other.execute("CREATE TRIGGER broken BEFORE DELETE ON entries BEGIN SELECT RAISE(FAIL, 'disk'); END")
    other.commit()
    with pytest.raises(sqlite3.Error):
        spool.forget(spool.read(0, 10))
    spool.append("b", CLOSED, [record("3")])
    assert other.execute("SELECT seq FROM entries").fetchall() == [(1,), (2,), (3,)]  # visible: committed
    other.execute("DROP TRIGGER broken")
    other.commit()
    other.close()
    spool.forget(spool.read(0, 10))
    assert state(spool) == (0, 0, 3, 0)
    spool.close()


def test_fsync_is_an_option_that_keeps_the_same_promises(tmp_path):
    spool = Spool(tmp_path / "0000", MIB, fsync=True)
    assert spool.append("a", CLOSED, [record("1")]) == 1
    assert spool.read(0, 1) == [Entry(1, "a", CLOSED, (record("1"),))]
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

    own, adopted = open_spools(tmp_path, MIB)
    assert own.directory.name == "0001"
    assert [(each.directory.name, each.source_id, each.unclosed()) for each in adopted] == [
        ("0002", dead_id, ["dead"])
    ]
    opened(tmp_path / "0003").close()  # one without entries is given back at once
    for spool in (living, own, *adopted):
        spool.close()


def test_a_spool_that_cannot_be_read_is_one_sentence_and_not_passed_over(tmp_path):
    Spool(tmp_path / "0000", 1000).close()
    database = tmp_path / "0000" / "spool.sqlite3"
    database.write_bytes(b"no database, but somebody's events" * 200)
    with pytest.raises(StartRefused, match=r"the spool .*0000/spool.sqlite3 cannot be opened: .+\.$"):
        open_spools(tmp_path, 1000)


def test_a_spool_root_that_is_no_directory_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StartRefused, match="cannot be made: Not a directory"):
        open_spools(tmp_path / "file" / "spool", 1000)
