"""Writes of several edges that know nothing of one another: nothing that was acknowledged gets lost."""

import asyncio
from datetime import UTC, datetime

import msgspec
import pytest

from schemas import codec
from schemas.keys import KeyHash, KeyRecord, record_key
from services.edge.admin.changes import deleted
from services.edge.registry.writer import (
    ROUNDS_MAX,
    RegistryUnavailable,
    Taken,
    Vanished,
    alteration,
    creation,
    creation_or_alteration,
    removal,
)
from tests.unit.edge.registry.shared_log import Edge, SharedLog, end_user, key, rebuilt, said, team

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TEAM = team("search", NOW)


def altered(entry, **fields):
    """Change some fields of a record, whatever else stands in it by then."""
    return alteration(entry, lambda standing: msgspec.structs.replace(standing, **fields))


def gone(entry):
    return removal(entry, lambda standing: deleted(standing, NOW))


def write(edge, *changes):
    return asyncio.run(edge.writer.write(changes))


def two_edges(*entries):
    """Two edges that have read the same; neither reads on unless it writes, or is told to."""
    log = SharedLog()
    if entries:
        write(Edge(log), *(creation(each) for each in entries))
    return Edge(log), Edge(log)


def agreed(*edges):
    """Let all read on, see that they and one that starts now say the same, and give the one that starts."""
    new = rebuilt(edges[0].log)
    for edge in edges:
        edge.catch_up()
        assert said(edge) == said(new)
    return new


def test_two_changes_of_one_record_at_the_same_moment_are_both_made():
    one, other = two_edges(TEAM)
    write(one, altered(TEAM, tags=("a",)))
    write(other, altered(TEAM, blocked=True))
    expected = msgspec.structs.replace(TEAM, tags=("a",), blocked=True)
    assert agreed(one, other).table.team("search") == expected


def test_of_several_changes_in_one_write_only_the_overtaken_one_is_made_again():
    second = team("second", NOW)
    one, other = two_edges(TEAM, second)
    write(one, altered(TEAM, tags=("a",)))
    before = len(one.log.records)
    write(other, altered(TEAM, blocked=True), altered(second, blocked=True))
    assert len(one.log.records) == before + 3
    new = agreed(one, other)
    assert new.table.team("search") == msgspec.structs.replace(TEAM, tags=("a",), blocked=True)
    assert new.table.team("second") == msgspec.structs.replace(second, blocked=True)


def test_what_was_deleted_stays_deleted_though_another_edge_changes_it_at_the_same_moment():
    """The change lies behind the deletion in the log, and for a moment the key is there again."""
    owned = key("vk_1", NOW, hashes=(KeyHash(sha256="d"),))
    one, other = two_edges(owned)
    write(one, gone(owned))
    with pytest.raises(Vanished):
        write(other, altered(owned, blocked=False))
    new = agreed(one, other)
    assert (new.table.key("vk_1"), new.table.key_of_digest("d")) == (None, None)
    assert new.table.get("virtual_key:vk_1") == deleted(owned, NOW)


def test_a_deletion_wins_over_a_change_that_lies_before_it_in_the_log():
    one, other = two_edges(TEAM)
    write(one, altered(TEAM, tags=("a",)))
    write(other, gone(TEAM))
    assert agreed(one, other).table.team("search") is None


def test_two_who_delete_one_record_at_the_same_moment_are_both_told_that_it_is_gone():
    second = team("second", NOW)
    one, other = two_edges(TEAM, second)
    write(one, gone(TEAM))
    write(other, gone(second), gone(TEAM))
    assert list(agreed(one, other).table.standing("")) == []


def test_a_record_that_two_make_at_the_same_moment_is_the_first_ones():
    one, other = two_edges()
    first = team("search", NOW, tags=("first",))
    write(one, creation(first))
    with pytest.raises(Taken):
        write(other, creation(team("search", NOW, tags=("second",))))
    assert agreed(one, other).table.team("search") == first


def test_what_is_blocked_while_it_is_made_elsewhere_is_made_and_blocked():
    one, other = two_edges()
    made = end_user("ada", NOW, alias="Ada")
    write(one, creation(made))
    blocked = end_user("ada", NOW, blocked=True)
    block = creation_or_alteration(blocked, lambda stands: msgspec.structs.replace(stands, blocked=True))
    write(other, block)
    assert agreed(one, other).table.end_user("ada") == msgspec.structs.replace(made, blocked=True)


def test_a_deleted_record_may_be_made_anew():
    one, other = two_edges(TEAM)
    write(one, gone(TEAM))
    other.catch_up()
    write(other, creation(TEAM))
    assert agreed(one, other).table.team("search") == TEAM


def test_a_write_that_others_always_come_before_gives_up_and_leaves_what_they_wrote():
    one, other = two_edges(TEAM)
    others = [msgspec.structs.replace(TEAM, tags=(str(number),)) for number in range(ROUNDS_MAX)]
    waiting = iter(others)

    def another():
        entry = next(waiting, None)
        if entry is not None:
            event = KeyRecord(change_id=str(entry.tags), edge_id="another", at=NOW, record=entry)
            one.log.records.append((record_key(entry), codec.encode(event)))

    other.before_publishing = another
    with pytest.raises(RegistryUnavailable, match="at the same time"):
        write(other, altered(TEAM, blocked=True))
    assert agreed(one, other).table.team("search") == others[-1]


def test_a_full_registry_takes_nothing_new_and_lets_everything_else_be_done():
    log = SharedLog()
    edge = Edge(log, records_max=2)
    ada = end_user("ada", NOW)
    write(edge, creation(TEAM), creation(ada))
    block = creation_or_alteration(ada, lambda stands: msgspec.structs.replace(stands, blocked=True))
    write(edge, altered(TEAM, blocked=True), block)
    for new in (creation(team("new", NOW)), creation_or_alteration(end_user("eve", NOW), lambda each: each)):
        with pytest.raises(RegistryUnavailable, match="holds 2 records"):
            write(edge, new)
    write(edge, gone(TEAM))
    with pytest.raises(RegistryUnavailable):
        write(edge, creation(team("new", NOW)))
    write(edge, creation(TEAM))
    assert (edge.table.end_user("ada").blocked, edge.table.team("search"), len(edge.table)) == (True, TEAM, 2)


def test_a_registry_that_is_fuller_than_full_can_still_be_changed():
    """Two edges may both take what is the last record for each of them."""
    log = SharedLog()
    write(Edge(log), creation(TEAM), creation(team("second", NOW)))
    edge = Edge(log, records_max=1)
    write(edge, altered(TEAM, blocked=True))
    write(edge, gone(TEAM))
    assert edge.table.team("search") is None


def test_several_new_records_of_one_write_fit_all_or_none():
    edge = Edge(SharedLog(), records_max=2)
    with pytest.raises(RegistryUnavailable):
        write(edge, *(creation(team(str(number), NOW)) for number in range(3)))
    assert (len(edge.table), edge.log.records) == (0, [])
