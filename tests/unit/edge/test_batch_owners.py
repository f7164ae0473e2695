"""Whose batches are, and how long somebody waits to be let at one."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from schemas import codec
from schemas.batches import BatchOwner
from schemas.keys import VirtualKey
from services.edge.batches.facts import owner_record
from services.edge.batches.owners import Owners, Span, holder_of, holders_of
from services.edge.batches.ownership import Ownership
from services.edge.refusals import BATCH_NOT_FOUND, OWNERS_UNREAD
from services.edge.registry.rights import Grant
from services.runtime.publisher import PublishFailed

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def owner(batch_id="msgbatch_1", key="vk_1", team="", created_at=AT):
    return BatchOwner(
        batch_id=batch_id,
        at=AT,
        edge_id="e",
        created_at=created_at,
        request_id="r",
        virtual_key_id=key,
        team_id=team,
    )


def grant(key="vk_1", team=""):
    return Grant(VirtualKey(virtual_key_id=key, revision=1, created_at=AT, updated_at=AT, team_id=team))


@pytest.mark.parametrize(
    ("made_by", "asked_by", "may_see"),
    [
        (owner(), grant(), True),
        (owner(), grant("vk_2"), False),
        (owner(team="search"), grant("vk_2", "search"), True),
        (owner(team="search"), grant("vk_1", "ads"), False),
        (owner(team="search"), grant("vk_1"), False),
        (owner(), grant("vk_1", "search"), True),
        (owner(key="vk_2"), grant("vk_1", "search"), False),
        (owner(key="search"), grant("vk_1", "search"), False),
        (owner(team="vk_1"), grant("vk_1"), False),
    ],
)
def test_a_batch_is_its_teams_or_of_a_key_without_a_team_its_own(made_by, asked_by, may_see):
    owners = Owners()
    owners.put(made_by.batch_id, holder_of(made_by), AT)
    assert owners.is_one_of(made_by.batch_id, holders_of(asked_by)) is may_see


def test_a_batch_that_is_not_known_is_nobodys():
    owners = Owners()
    assert not owners.is_one_of("msgbatch_1", holders_of(grant()))
    assert owners.span(holders_of(grant())) is None


def test_what_was_said_first_of_a_batch_holds():
    owners = Owners()
    owners.put("msgbatch_1", "team:search", AT)
    owners.put("msgbatch_1", "team:ads", AT)
    assert owners.is_one_of("msgbatch_1", ("team:search",))
    assert owners.span(("team:ads",)) is None


def test_the_span_of_a_caller_is_that_of_all_its_names():
    owners = Owners()
    for number, (holder, at) in enumerate(
        [("key:vk_1", AT), ("team:a", AT + HOUR), ("team:a", AT - HOUR), ("team:b", AT + 5 * HOUR)]
    ):
        owners.put(f"msgbatch_{number}", holder, at)
    assert owners.span(("key:vk_1", "team:a")) == Span(AT - HOUR, AT + HOUR)


def test_of_too_many_the_oldest_are_forgotten():
    owners = Owners(owners_max=2)
    for number in range(3):
        owners.put(f"msgbatch_{number}", "team:a", AT)
    assert len(owners) == 2
    assert [owners.is_one_of(f"msgbatch_{number}", ("team:a",)) for number in range(3)] == [False, True, True]


def take(ownership, *events):
    for each in events:
        ownership.take(each.batch_id, codec.encode(each))
    ownership.come_to_end()


def test_a_caller_is_let_at_its_own_batch_at_once_and_at_anothers_after_a_wait_never():
    async def scenario():
        ownership = Ownership(owner_s_max=0.01)
        take(ownership, owner())
        assert await ownership.refusal("msgbatch_1", ("key:vk_1",)) is None
        assert await ownership.refusal("msgbatch_1", ("key:vk_2",)) == BATCH_NOT_FOUND
        assert await ownership.refusal("msgbatch_2", ("key:vk_1",)) == BATCH_NOT_FOUND
        assert await ownership.refusal("", ("key:vk_1",)) == BATCH_NOT_FOUND

    asyncio.run(scenario())


def test_a_caller_that_comes_before_the_word_of_its_batch_waits_for_it():
    async def scenario():
        ownership = Ownership(owner_s_max=60)
        take(ownership)
        asking = [asyncio.create_task(ownership.refusal("msgbatch_1", ("key:vk_1",))) for _ in range(3)]
        await asyncio.sleep(0)  # all of them wait now
        take(ownership, owner("msgbatch_0"))
        take(ownership, owner())
        assert await asyncio.gather(*asking) == [None, None, None]

    asyncio.run(scenario())


@pytest.mark.parametrize(("is_read", "is_away"), [(False, False), (False, True), (True, True)])
def test_where_it_cannot_be_known_whose_a_batch_is_the_caller_is_told_to_try_again(is_read, is_away):
    async def scenario():
        ownership = Ownership(owner_s_max=0.01, is_read=is_read)
        ownership.is_away = is_away
        assert await ownership.refusal("msgbatch_1", ("key:vk_1",)) == OWNERS_UNREAD

    asyncio.run(scenario())


def test_a_batch_that_was_made_here_is_known_before_kafka_says_so_and_when_the_log_is_read_anew():
    async def scenario():
        ownership = Ownership(owner_s_max=0.01)
        await ownership.made_here(owner(), owner_record(owner()))
        assert await ownership.refusal("msgbatch_1", ("key:vk_1",)) is None
        ownership.begin_anew()
        await ownership.made_here(owner("msgbatch_2"), owner_record(owner("msgbatch_2")))
        take(ownership, owner("msgbatch_3"))
        for number in range(1, 4):
            assert await ownership.refusal(f"msgbatch_{number}", ("key:vk_1",)) is None

    asyncio.run(scenario())


class Kafka:
    """Takes records, or does not."""

    def __init__(self, error=None):
        self.error = error
        self.taken = []

    async def publish(self, records):
        if self.error is not None:
            raise self.error
        self.taken += records
        return []


def test_whose_a_batch_is_stands_on_the_topic_before_its_creator_knows_its_id():
    kafka = Kafka()
    asyncio.run(Ownership(kafka).made_here(owner(), owner_record(owner())))
    assert [codec.decode(BatchOwner, each.value) for each in kafka.taken] == [owner()]


def test_where_kafka_does_not_take_it_the_creator_is_answered_all_the_same():
    async def scenario():
        ownership = Ownership(Kafka(PublishFailed("NodeNotReadyError")), owner_s_max=0.01)
        await ownership.made_here(owner(), owner_record(owner()))
        assert await ownership.refusal("msgbatch_1", ("key:vk_1",)) is None

    asyncio.run(scenario())


def test_a_kafka_that_is_away_is_not_asked():
    kafka = Kafka()
    ownership = Ownership(kafka)
    ownership.is_away = True
    asyncio.run(ownership.made_here(owner(), owner_record(owner())))
    assert kafka.taken == []


def test_a_record_that_is_no_owner_is_not_taken():
    ownership = Ownership()
    with pytest.raises(codec.Undecodable):
        ownership.take("msgbatch_1", b"{}")
    ownership.take("msgbatch_1", None)
    assert len(ownership.owners) == 0
