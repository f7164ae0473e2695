"""What was deleted long ago goes for good, once; nothing that stands, or was deleted lately, goes with it."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from schemas.keys import record_key
from services.edge.admin.changes import deleted
from services.edge.registry.writer import BURIED_AT_ONCE_MAX, DELETED_DAYS, Taken, Vanished, creation
from tests.unit.edge.registry.shared_log import Edge, SharedLog, end_user, key, rebuilt, said, team

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=DELETED_DAYS, seconds=1)
JUST_NOT = NOW - timedelta(days=DELETED_DAYS)


def edge_with(*entries):
    edge = Edge(SharedLog())
    if entries:
        asyncio.run(edge.writer.write([creation(each) for each in entries]))
    return edge


def bury(edge, now=NOW):
    return asyncio.run(edge.writer.bury_deleted(now))


def test_only_what_was_deleted_more_than_thirty_days_ago_gets_a_tombstone():
    entries = [
        deleted(key("vk_old", NOW), LONG_AGO),
        deleted(key("vk_young", NOW), JUST_NOT),
        key("vk_standing", NOW),
        deleted(team("old", NOW), LONG_AGO),
        deleted(end_user("old", NOW), LONG_AGO),
        end_user("standing", NOW),
    ]
    edge = edge_with(*entries)
    assert bury(edge) == 3
    assert sorted(edge.log.tombstones()) == ["end_user:old", "team:old", "virtual_key:vk_old"]
    left = [entries[1], entries[2], entries[5]]
    assert said(edge)[0] == {record_key(each): each for each in left}
    assert said(rebuilt(edge.log)) == said(edge)
    assert bury(edge, NOW + timedelta(seconds=1)) == 1


def test_what_is_buried_is_forgotten_on_every_edge_and_buried_once():
    gone = deleted(key("vk_1", NOW, key_alias="a"), LONG_AGO)
    one = edge_with(gone)
    other = Edge(one.log)
    assert bury(one) == 1
    other.catch_up()
    assert (bury(other), bury(one)) == (0, 0)
    assert one.log.tombstones() == ["virtual_key:vk_1"]
    for edge in (one, other, rebuilt(one.log), Edge(one.log)):
        assert (len(edge.table), edge.table.get("virtual_key:vk_1"), edge.table.key("vk_1")) == (
            0,
            None,
            None,
        )


def test_two_edges_that_bury_at_the_same_moment_do_no_harm():
    one = edge_with(deleted(team("search", NOW), LONG_AGO))
    other = Edge(one.log)
    bury(one)
    with pytest.raises(Vanished):
        bury(other)
    one.catch_up()
    assert (len(one.table), len(other.table), len(rebuilt(one.log).table)) == (0, 0, 0)


def test_a_record_that_was_made_anew_is_not_buried_by_an_edge_that_has_not_read_of_it_yet():
    one = edge_with(deleted(end_user("ada", NOW), LONG_AGO))
    behind = Edge(one.log)
    anew = end_user("ada", NOW, alias="Ada")
    asyncio.run(one.writer.write([creation(anew)]))
    with pytest.raises(Taken):
        bury(behind)
    one.catch_up()
    assert one.log.tombstones() == []
    for edge in (one, behind, rebuilt(one.log)):
        assert edge.table.end_user("ada") == anew


def test_a_buried_team_may_be_made_anew_and_stays():
    one = edge_with(deleted(team("search", NOW), LONG_AGO))
    bury(one)
    anew = team("search", NOW, tags=("new",))
    asyncio.run(one.writer.write([creation(anew)]))
    assert bury(one) == 0
    assert (one.table.team("search"), rebuilt(one.log).table.team("search")) == (anew, anew)


def test_many_are_buried_in_several_turns_so_that_writes_go_on_between_them():
    edge = edge_with(*(deleted(team(str(number), NOW), LONG_AGO) for number in range(BURIED_AT_ONCE_MAX + 1)))
    before, turns = len(edge.log.records), []
    edge.before_publishing = lambda: turns.append(len(edge.log.records) - before)
    assert bury(edge) == BURIED_AT_ONCE_MAX + 1
    # Each turn writes the records once more, and then their tombstones.
    assert turns == [0, BURIED_AT_ONCE_MAX, 2 * BURIED_AT_ONCE_MAX, 2 * BURIED_AT_ONCE_MAX + 1]
    assert len(edge.table) == 0
