"""Virtual keys on edges that share one Kafka: what is made on one is in force on all, and tells no secret."""

import asyncio
import gzip
import json

import pytest
from click.testing import CliRunner

from schemas import codec, topics
from schemas.usage import UsageRecorded
from services.cli.commands import main
from services.local.ports import free_ports
from tests.integration.edge.registry_stack import (
    AS_MASTER,
    GATEWAY_KEY,
    MASTER,
    MESSAGE,
    asked,
    seconds_until,
    sent,
    stack,
    told,
)
from tests.integration.runtime import brokers
from tests.integration.runtime.clients import read_all

TEST_S_MAX = 90.0
BATCHES = "/v1/messages/batches"
# A second is promised and 20 ms are what it takes; the machine of a test may be busy.
IN_FORCE_S_MAX = 5.0


def run(test):
    async def bounded():
        async with asyncio.timeout(TEST_S_MAX):
            await test

    asyncio.run(bounded())


def test_what_is_changed_on_one_edge_is_in_force_on_all_of_them_within_a_second(tmp_path):
    async def scenario():
        async with stack(tmp_path, edges=4) as (edges, *_):
            team = await told(edges[3], "/team/new", team_id="search")
            assert team["team_id"] == "search"
            took = {}
            key = (await told(edges[0], "/key/generate", team_id="search"))["key"]
            took["made"] = await asyncio.gather(*(seconds_until(each, key, 200) for each in edges))
            await told(edges[1], "/key/block", key=key)
            took["blocked"] = await asyncio.gather(*(seconds_until(each, key, 401) for each in edges))
            await told(edges[2], "/key/unblock", key=key)
            took["unblocked"] = await asyncio.gather(*(seconds_until(each, key, 200) for each in edges))
            await told(edges[3], "/team/block", team_id="search")
            took["team blocked"] = await asyncio.gather(*(seconds_until(each, key, 401) for each in edges))
            await told(edges[0], "/team/unblock", team_id="search")
            took["team unblocked"] = await asyncio.gather(*(seconds_until(each, key, 200) for each in edges))
            await told(edges[1], "/key/delete", keys=[key])
            took["deleted"] = await asyncio.gather(*(seconds_until(each, key, 401) for each in edges))
            print({what: round(max(seconds), 3) for what, seconds in took.items()})
            assert max(max(seconds) for seconds in took.values()) < IN_FORCE_S_MAX

    run(scenario())


def test_two_operators_who_change_one_key_at_once_both_get_what_they_asked_for(tmp_path):
    async def scenario():
        async with stack(tmp_path, edges=2) as (edges, *_):
            key_id = (await told(edges[0], "/key/generate"))["virtual_key_id"]
            for round_ in range(5):
                await asyncio.gather(
                    told(edges[0], "/key/update", key=key_id, tags=[f"tag-{round_}"]),
                    told(edges[1], "/key/update", key=key_id, user_id=f"user-{round_}"),
                )
                expected = ([f"tag-{round_}"], f"user-{round_}")

                async def stands_on(client, expected=expected):
                    info = (await asked(client, "/key/info", key=key_id))["info"]
                    return (info["tags"], info["user_id"]) == expected

                for each in edges:
                    await brokers.until_true(lambda each=each: stands_on(each), TEST_S_MAX)

    run(scenario())


def test_everything_a_key_uses_is_booked_to_it_and_nothing_tells_its_secret(tmp_path, capfd):
    async def scenario():
        async with stack(tmp_path) as ((client,), _, kafka):
            await told(client, "/team/new", team_id="search", tags=["team"], metadata={"centre": "4711"})
            made = await told(
                client,
                "/key/generate",
                key_alias="backend",
                team_id="search",
                tags=["key"],
                metadata={"owner": "ada"},
            )
            secret = made["key"]
            body = {**MESSAGE, "litellm_metadata": {"tags": ["mine"], "owner": "forged", "job": "nightly"}}
            assert (await sent(client, secret, body=body)).status_code == 200
            rotated = await told(client, "/key/regenerate", key=secret, grace_period="1h")
            answers = [(await sent(client, each)).status_code for each in (secret, rotated["key"])]
            assert answers == [200, 200]
            assert rotated["virtual_key_id"] == made["virtual_key_id"]
            assert (await sent(client, secret[:-1])).status_code == 401
            await told(client, "/key/delete", key_aliases=["backend"])
            assert (await sent(client, rotated["key"])).status_code == 401
            for each in topics.all_topics():
                await _holds_no_secret(kafka, each, (secret, rotated["key"], MASTER, GATEWAY_KEY))
            used = [
                codec.decode(UsageRecorded, each.value) for each in await read_all(kafka, topics.USAGE, 12)
            ]
            booked = [each.attribution for each in used]
            assert {each.virtual_key_id for each in booked} == {made["virtual_key_id"]}
            first = next(each for each in booked if "job" in each.metadata)
            told_of_it = (first.key_alias, first.team_id, first.tags, first.metadata)
            assert told_of_it == (
                "backend",
                "search",
                ("key", "team", "mine"),
                {"centre": "4711", "owner": "ada", "job": "nightly"},
            )
            return secret, rotated["key"]

    async def told_nowhere():
        secrets = await scenario()
        out = "".join(capfd.readouterr())
        files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        for secret in (*secrets, MASTER, GATEWAY_KEY):
            assert secret not in out
            assert secret.encode() not in files

    run(told_nowhere())


async def _holds_no_secret(kafka, topic, secrets):
    for record in await _read(kafka, topic):
        told = b"\n".join((record.key or b"", record.value or b"", *(value for _, value in record.headers)))
        for secret in secrets:
            assert secret.encode() not in told


def test_a_key_may_use_what_it_was_given_and_nothing_else(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), *_):
            key = (await told(client, "/key/generate", models=["claude-haiku-*"]))["key"]
            opus = {**MESSAGE, "model": "claude-opus-4-5"}
            item = {"custom_id": "a", "params": MESSAGE}
            advised = {
                **MESSAGE,
                "tools": [{"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5-5"}],
            }
            falling = {**MESSAGE, "fallbacks": [{"model": "claude-opus-5-5"}]}
            seen = {
                "opus as advisor": await sent(client, key, body=advised),
                "opus as fallback": await sent(client, key, body=falling),
                "opus as fallback, coded": await client.post(
                    "/v1/messages",
                    headers={"x-api-key": key, "content-encoding": "gzip"},
                    content=gzip.compress(json.dumps(falling).encode()),
                ),
                "opus as advisor in batch": await sent(
                    client, key, BATCHES, {"requests": [item, {"custom_id": "b", "params": advised}]}
                ),
                "haiku": await sent(client, key),
                "opus": await sent(client, key, body=opus),
                "no model": await sent(client, key, body={"messages": []}),
                "unreadable": await sent(client, key, **{"content-encoding": "br2"}),
                "counted opus": await sent(client, key, "/v1/messages/count_tokens", opus),
                "batch": await sent(client, key, BATCHES, {"requests": [item]}),
                "opus in batch": await sent(
                    client, key, BATCHES, {"requests": [item, {"custom_id": "b", "params": opus}]}
                ),
                "no model in batch": await sent(
                    client, key, BATCHES, {"requests": [item, {"custom_id": "b", "params": {}}]}
                ),
                "files": await client.get("/v1/files", headers={"x-api-key": key}),
                "organisation": await client.get("/v1/organizations/users", headers={"x-api-key": key}),
                "models": await client.get(
                    "/v1/models", headers={"x-api-key": key, "anthropic-version": "1"}
                ),
            }
            assert {what: answer.status_code for what, answer in seen.items()} == {
                "opus as advisor": 403,
                "opus as fallback": 403,
                "opus as fallback, coded": 403,
                "opus as advisor in batch": 403,
                "haiku": 200,
                "opus": 403,
                "no model": 403,
                "unreadable": 403,
                "counted opus": 403,
                "batch": 200,
                "opus in batch": 403,
                "no model in batch": 403,
                "files": 403,
                "organisation": 403,
                "models": 200,
            }
            assert seen["opus"].json()["error"]["type"] == "permission_error"
            await told(client, "/customer/block", user_ids=["mallory"])
            assert (await sent(client, key, **{"x-litellm-customer-id": "mallory"})).status_code == 401
            assert (await sent(client, MASTER, **{"x-litellm-customer-id": "mallory"})).status_code == 401
            await told(client, "/customer/unblock", user_ids=["mallory"])
            assert (await sent(client, key, **{"x-litellm-customer-id": "mallory"})).status_code == 200

    run(scenario())


@pytest.mark.parametrize("has_end_users", [True, False])
def test_a_batch_with_an_item_for_a_blocked_end_user_is_refused_as_a_whole(has_end_users, tmp_path):
    def item(number, **params):
        return {"custom_id": f"i-{number}", "params": {**MESSAGE, **params}}

    async def scenario():
        settings = {"disable_end_user_cost_tracking": not has_end_users}
        async with stack(tmp_path, **settings) as ((client,), upstream, kafka):
            key = (await told(client, "/key/generate"))["key"]
            await told(client, "/customer/new", user_id="ada")
            await told(client, "/customer/block", user_ids=["mallory"])
            others = [item(number, litellm_metadata={"user": "ada"}) for number in range(17)]
            for own in ({"litellm_metadata": {"user": "mallory"}}, {"metadata": {"user_id": "mallory"}}):
                batch = {"requests": [*others, item(17, **own), item(18)]}
                for shown in (key, MASTER):
                    answer = await sent(client, shown, BATCHES, batch)
                    assert (answer.status_code, answer.json()["error"]) == (
                        401,
                        {
                            "type": "authentication_error",
                            "message": "requests.17: the end user that this item names is blocked.",
                        },
                    )
            assert len(upstream.received) == 0
            await told(client, "/customer/unblock", user_ids=["mallory"])
            assert (await sent(client, key, BATCHES, batch)).status_code == 200
            facts = []
            while len(facts) < 1 + has_end_users:  # the creation, and the items that say anything
                facts = await read_all(kafka, topics.BATCH_FACTS, 6)
            records = [each for topic in topics.all_topics() for each in await _read(kafka, topic)]
            is_told = any(b"mallory" in each.value for each in records if each.topic != topics.KEYS)
            assert is_told == has_end_users

    run(scenario())


async def _read(kafka, topic):
    return await read_all(kafka, topic.name, topic.partitions)


ADMIN_ROUTES = [
    ("POST", "/key/generate"),
    ("POST", "/key/update"),
    ("POST", "/key/delete"),
    ("POST", "/key/block"),
    ("POST", "/key/regenerate"),
    ("POST", "/key/x/regenerate"),
    ("GET", "/key/list"),
    ("GET", "/key/aliases"),
    ("POST", "/team/new"),
    ("GET", "/team/list"),
    ("POST", "/customer/new"),
    ("GET", "/end_user/list"),
]


def test_the_admin_api_is_for_the_master_key_alone(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), *_):
            made = await told(client, "/key/generate")
            other = await told(client, "/key/generate")
            shown = [
                ({}, 401),
                ({"x-api-key": "sk-forged-0123456789012345"}, 401),
                ({"x-api-key": MASTER[:-1]}, 401),
                ({"x-api-key": made["token"]}, 401),
                ({"x-api-key": made["key"]}, 403),
                ({"x-litellm-api-key": made["key"], "authorization": f"Bearer {MASTER}"}, 403),
            ]
            unknown = "token_not_found_in_db"
            types = ["auth_error", unknown, unknown, unknown, "auth_error", "auth_error"]
            for method, path in ADMIN_ROUTES:
                answers = [await client.request(method, path, headers=headers) for headers, _ in shown]
                assert [each.status_code for each in answers] == [status for _, status in shown], path
                assert [each.json()["error"]["type"] for each in answers] == types
            own = await client.get("/key/info", headers={"x-api-key": made["key"]})
            assert own.json()["info"]["virtual_key_id"] == made["virtual_key_id"]
            assert "key" not in own.json()["info"]
            foreign = await client.get(
                "/key/info", headers={"x-api-key": made["key"]}, params={"key": other["token"]}
            )
            assert foreign.status_code == 403
            described = (await client.get("/openapi.json")).json()
            assert {path for _, path in ADMIN_ROUTES if "/x/" not in path} <= set(described["paths"])
            assert (await client.get("/")).status_code == 404
            broken = await client.post("/key/generate", headers=AS_MASTER, content=b'{"key_alias":"\xff"}')
            assert (broken.status_code, broken.json()["error"]["type"]) == (400, "bad_request_error")
            long = await client.post("/key/generate", headers=AS_MASTER, content=b" " * 2_000_000)
            assert (long.status_code, long.json()["error"]["code"]) == (413, "413")
            await told(client, "/key/generate", 400, guardrails=[])
            await told(client, "/key/update", 404, key="sk-unknown")
            await told(client, "/key/generate", 400, team_id="nobody")
            await told(client, "/key/generate", 400, key=made["key"])

    run(scenario())


def test_the_commands_manage_keys_and_teams(tmp_path):
    def tollhouse(url, *arguments, given="", master=MASTER):
        environ = {"TOLLHOUSE_URL": url, "TOLLHOUSE_MASTER_KEY": master}
        done = CliRunner().invoke(main, arguments, input=given, env=environ)
        return done.exit_code, done.stdout, done.stderr

    def session(url):
        code, out, _ = tollhouse(url, "teams", "create", "search", "--alias", "Search", "--json")
        assert (code, json.loads(out)["team_alias"]) == (0, "Search")
        fields = ("--alias", "backend", "--team", "search", "--model", "claude-haiku-*", "--metadata", "a=b")
        code, out, err = tollhouse(url, "keys", "create", *fields)
        shown = dict(line.split(None, 1) for line in out.splitlines())
        assert (code, shown["metadata"], "shown this once" in err) == (0, "a=b", True)
        key, key_id = shown["key"], shown["virtual_key_id"]
        code, out, _ = tollhouse(url, "keys", "list")
        assert (code, key in out, key_id in out, "backend" in out) == (0, False, True, True)
        code, out, _ = tollhouse(url, "keys", "show", "-", given=f"{key}\n")
        assert (code, key_id in out, key in out) == (0, True, False)
        assert tollhouse(url, "keys", "block", key_id)[0] == 0
        alias = ("--model-alias", "fast=claude-haiku-4-5", "--model-alias", "slow=anthropic/claude-opus-4-5")
        code, out, _ = tollhouse(url, "keys", "update", key_id, *alias)
        assert (code, "fast=claude-haiku-4-5, slow=anthropic/claude-opus-4-5" in out) == (0, True)
        assert "fast=claude-haiku-4-5" in tollhouse(url, "keys", "show", key_id)[1]
        assert tollhouse(url, "keys", "update", key_id, "--model-alias", "fast")[0] == 2
        assert "blocked         yes" in tollhouse(url, "keys", "show", key_id)[1]
        assert tollhouse(url, "keys", "unblock", key_id)[0] == 0
        assert tollhouse(url, "keys", "update", key_id)[0] == 2
        assert tollhouse(url, "keys", "update", key_id, "--tag", "prod")[0] == 0
        code, out, _ = tollhouse(url, "keys", "rotate", key_id, "--json")
        assert (code, json.loads(out)["tags"], json.loads(out)["key"] != key) == (0, ["prod"], True)
        assert "backend" in tollhouse(url, "teams", "show", "search")[1]
        assert tollhouse(url, "teams", "block", "search")[0] == 0
        assert tollhouse(url, "teams", "unblock", "search")[0] == 0
        assert tollhouse(url, "teams", "update", "search", "--model", "claude-*")[0] == 0
        assert "search" in tollhouse(url, "teams", "list")[1]
        code, out, _ = tollhouse(url, "teams", "delete", "search")
        assert (code, out.splitlines()[0], len(out.splitlines())) == (0, "deleted team search", 2)
        gone = f"tollhouse: not there, so nothing was deleted: {key_id}\n"
        assert tollhouse(url, "keys", "delete", key_id) == (2, "", gone)
        assert tollhouse(url, "keys", "list", master="sk-wrong")[0] == 2
        assert tollhouse(url, "keys", "list", master="") == (
            2,
            "",
            "tollhouse: set TOLLHOUSE_MASTER_KEY to the master key of the edge\n",
        )
        away = f"http://127.0.0.1:{free_ports(1)}"
        assert tollhouse(away, "keys", "list") == (
            1,
            "",
            f"tollhouse: cannot reach the edge at {away}: ConnectError\n",
        )

    async def scenario():
        async with stack(tmp_path) as ((client,), *_):
            await asyncio.to_thread(session, str(client.base_url))

    run(scenario())


def test_without_a_master_key_there_is_no_admin_api(module_edge, client):
    for method, path in (*ADMIN_ROUTES, ("GET", "/openapi.json"), ("GET", "/key/info")):
        answer = client.request(method, module_edge.base_url + path, headers=AS_MASTER)
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")
