"""Edges that write the registry at the same moment, and that bury at the same moment: on a real log."""

import asyncio
import contextlib
import itertools
from datetime import UTC, datetime, timedelta

import msgspec

from schemas import topics
from schemas.keys import EndUser, KeyHash, Team, VirtualKey
from services.edge.admin.changes import deleted
from services.edge.registry.writer import DELETED_DAYS, Overtaken, alteration, creation
from services.runtime.kafka import KafkaConfig
from services.runtime.topics import migrate_topics
from tests.integration.edge.registry_kafka import running_broker
from tests.integration.edge.registry_members import member, records
from tests.integration.edge.registry_stack import AS_MASTER, asked, stack, told
from tests.integration.runtime import brokers
from tests.integration.runtime.clients import read_all

TEST_S_MAX = 120.0
ROUNDS = 10
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=DELETED_DAYS + 1)
LATELY = NOW - timedelta(days=DELETED_DAYS - 1)
SHARED = {"revision": 1, "created_at": NOW, "updated_at": NOW}


def run(test):
    async def bounded():
        async with asyncio.timeout(TEST_S_MAX):
            await test

    asyncio.run(bounded())


def test_a_key_that_is_deleted_on_one_edge_while_it_is_changed_on_another_is_gone_on_both(tmp_path):
    async def scenario():
        async with stack(tmp_path, edges=2) as ((one, other), *_):
            answers = []
            for _ in range(ROUNDS):
                key = (await told(one, "/key/generate"))["virtual_key_id"]
                await _until_known(other, key, 200)
                changed, gone = await asyncio.gather(
                    other.post("/key/update", headers=AS_MASTER, json={"key": key, "tags": ["late"]}),
                    one.post("/key/delete", headers=AS_MASTER, json={"keys": [key]}),
                )
                answers.append(changed.status_code)
                assert (gone.status_code, changed.status_code in (200, 404)) == (200, True)
                for each in (one, other):
                    await _until_known(each, key, 404)
            print("changes were answered", answers)
            assert [(await asked(each, "/key/list"))["total_count"] for each in (one, other)] == [0, 0]

    run(scenario())


async def _until_known(client, key, status):
    async def answered():
        answer = await client.get("/key/info", headers=AS_MASTER, params={"key": key})
        return answer.status_code == status

    await brokers.until_true(answered, TEST_S_MAX)


def test_a_team_that_two_edges_make_at_once_is_one_and_the_same_on_both(tmp_path):
    async def scenario():
        async with stack(tmp_path, edges=2) as (edges, *_):
            for number in range(ROUNDS):
                made = await asyncio.gather(
                    *(
                        each.post(
                            "/team/new",
                            headers=AS_MASTER,
                            json={"team_id": f"t-{number}", "tags": [f"of-{place}"]},
                        )
                        for place, each in enumerate(edges)
                    )
                )
                assert sorted(each.status_code for each in made) == [200, 400]
                winner = next(place for place, each in enumerate(made) if each.status_code == 200)

                async def is_the_winners(client, name=f"t-{number}", tags=[f"of-{winner}"]):  # noqa: B006
                    answer = await client.get("/team/info", headers=AS_MASTER, params={"team_id": name})
                    return answer.status_code == 200 and answer.json()["team_info"]["tags"] == tags

                for each in edges:
                    await brokers.until_true(lambda each=each: is_the_winners(each), TEST_S_MAX)

    run(scenario())


def test_two_edges_that_give_out_one_alias_at_once_agree_whose_it_is(tmp_path):
    async def scenario():
        async with stack(tmp_path, edges=2) as (edges, *_):
            alias, tokens = await _one_alias(edges)
            for each in edges:
                for token in tokens:
                    await _until_known(each, token, 200)
            gone = (await told(edges[0], "/key/delete", key_aliases=[alias]))["deleted_keys"]
            assert set(gone) < tokens
            (left,) = tokens - set(gone)
            for each in edges:
                await _until_known(each, *gone, 404)
                assert (await asked(each, "/key/info", key=left))["info"]["key_alias"] == alias
                await told(each, "/key/generate", 400, key_alias=alias)
            assert (await told(edges[1], "/key/delete", key_aliases=[alias]))["deleted_keys"] == [left]

    run(scenario())


async def _one_alias(edges):
    """Make two keys of one alias; an edge that has read of the other's key in time refuses its own."""
    numbers = itertools.count()
    while True:
        body = {"key_alias": f"alias-{next(numbers)}"}
        made = await asyncio.gather(
            *(each.post("/key/generate", headers=AS_MASTER, json=body) for each in edges)
        )
        if [each.status_code for each in made] == [200, 200]:
            return body["key_alias"], {each.json()["token"] for each in made}
        assert sorted(each.status_code for each in made) == [200, 400]


ENTRIES = [
    deleted(VirtualKey(virtual_key_id="vk_old", key_alias="a", **SHARED), LONG_AGO),
    deleted(VirtualKey(virtual_key_id="vk_young", **SHARED), LATELY),
    VirtualKey(virtual_key_id="vk_1", key_alias="a", hashes=(KeyHash(sha256="d"),), **SHARED),
    deleted(Team(team_id="old", **SHARED), LONG_AGO),
    deleted(EndUser(end_user_id="anew", **SHARED), LONG_AGO),
    EndUser(end_user_id="ada", **SHARED),
]


def test_what_was_deleted_long_ago_goes_from_every_edge_and_from_what_a_new_one_reads(tmp_path):
    async def scenario():
        async with running_broker(tmp_path / "kafka") as address:
            kafka = KafkaConfig(bootstrap_servers=address, request_timeout_ms=5_000)
            await migrate_topics(kafka)
            async with member(kafka) as one, member(kafka) as other:
                await one.writer.write([creation(each) for each in ENTRIES])
                anew = EndUser(end_user_id="anew", alias="back", **SHARED)
                await one.writer.write([creation(anew)])
                await other.until(lambda table: table.end_user("anew") is not None)
                assert await one.writer.bury_deleted(NOW) == 2
                left = sorted([*ENTRIES[1:3], ENTRIES[5], anew], key=repr)
                for each in (one, other):
                    await each.until(lambda table: len(table) == 4)
                    assert records(each.table) == left
                    assert each.table.key_of_alias("a") == each.table.key_of_digest("d") == ENTRIES[2]
                assert [await each.writer.bury_deleted(NOW) for each in (other, one)] == [0, 0]
                assert await _tombstones(kafka) == [b"team:old", b"virtual_key:vk_old"]
                async with member(kafka) as new:
                    assert records(new.table) == left

    run(scenario())


def test_burials_on_two_edges_amid_changes_take_away_nothing_that_was_made_anew(tmp_path):
    """Each round one edge makes a record anew, and then both bury; the other may not have read of it yet."""

    async def scenario():
        async with running_broker(tmp_path / "kafka") as address:
            kafka = KafkaConfig(bootstrap_servers=address, request_timeout_ms=5_000)
            await migrate_topics(kafka)
            async with member(kafka) as one, member(kafka) as other:
                for number in range(ROUNDS):
                    gone = deleted(EndUser(end_user_id=f"u-{number}", **SHARED), LONG_AGO)
                    await one.writer.write([creation(gone)])
                    await other.until(lambda table, name=f"end_user:u-{number}": table.get(name) is not None)
                    anew = EndUser(end_user_id=f"u-{number}", alias="back", **SHARED)
                    await one.writer.write([creation(anew)])
                    await asyncio.gather(_bury(other), _bury(one), _rename(other, anew))
                async with member(kafka) as new:
                    expected = {f"u-{number}" for number in range(ROUNDS)}
                    assert {each.end_user_id for each in new.table.standing("end_user:")} == expected
                    for each in (one, other):
                        await each.until(lambda table: records(table) == records(new.table))

    run(scenario())


async def _bury(one):
    with contextlib.suppress(Overtaken):  # then an hour later
        await one.writer.bury_deleted(NOW)


async def _rename(one, entry):
    """Change what may not be there yet, or not any more."""
    change = alteration(entry, lambda standing: msgspec.structs.replace(standing, alias="renamed"))
    with contextlib.suppress(Overtaken):
        await one.writer.write([change])


async def _tombstones(kafka):
    written = await read_all(kafka, topics.KEYS, 1)
    return sorted(each.key for each in written if each.value is None)
