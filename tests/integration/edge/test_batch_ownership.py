"""Teams that share one Anthropic account: each gets at its own batches, on every edge, and at no others."""

import asyncio
import json
import time

import anthropic
import pytest

from services.local.anthropic.reply import CannedReply
from tests.integration.edge.registry_stack import AS_MASTER, MESSAGE, stack, told

BATCHES = "/anthropic/v1/messages/batches"
JSON = ((b"content-type", b"application/json"),)
TEST_S_MAX = 90.0


def run(test):
    async def bounded():
        async with asyncio.timeout(TEST_S_MAX):
            await test

    asyncio.run(bounded())


async def called(client, method, path, key, **kwargs):
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    return await client.request(method, path, headers=headers, **kwargs)


async def created(client, key, custom_id="a"):
    body = {"requests": [{"custom_id": custom_id, "params": MESSAGE}]}
    answer = await called(client, "POST", BATCHES, key, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


async def listed(client, key, query=""):
    answer = await called(client, "GET", BATCHES + query, key)
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["data"]]


async def key_of(client, **fields):
    return (await told(client, "/key/generate", **fields))["key"]


def test_a_batch_is_there_for_its_team_on_every_edge_and_for_nobody_else(tmp_path):
    async def scenario():
        async with stack(tmp_path, edges=2) as ((here, there), upstream, _):
            for team in ("search", "ads"):
                await told(here, "/team/new", team_id=team)
            mine = await key_of(here, team_id="search")
            colleagues = await key_of(here, team_id="search")
            others, loners = await key_of(here, team_id="ads"), await key_of(here)
            batch_id = await created(here, mine)
            # At once and at another edge: a caller may be there before the word of its batch.
            for client, key in ((there, colleagues), (here, mine), (here, colleagues), (there, mine)):
                found = await called(client, "GET", f"{BATCHES}/{batch_id}", key)
                assert (found.status_code, found.json()["id"]) == (200, batch_id)
            upstream.finish_batch(batch_id)
            calls = [
                ("GET", ""),
                ("POST", "/cancel"),
                ("GET", "/results"),
                ("DELETE", ""),
            ]
            asked = [
                called(client, method, f"{BATCHES}/{batch_id}{below}", key)
                for client in (here, there)
                for key in (others, loners)
                for method, below in calls
            ]
            answers = await asyncio.gather(*asked)
            nowhere = await called(here, "GET", f"{BATCHES}/msgbatch_nowhere", others)
            for answer in answers:
                error = answer.json()
                told_id = error.pop("request_id")
                assert told_id == answer.headers["request-id"]
                assert (answer.status_code, error) == (
                    404,
                    {
                        "type": "error",
                        "error": {
                            "type": "not_found_error",
                            "message": "There is no message batch with this id that this API key may see.",
                        },
                    },
                )
                assert answer.headers["x-should-retry"] == "false"
                assert error == {name: nowhere.json()[name] for name in error}
            results = await called(there, "GET", f"{BATCHES}/{batch_id}/results", colleagues)
            assert (results.status_code, results.json()["custom_id"]) == (200, "a")
            assert (await called(there, "DELETE", f"{BATCHES}/{batch_id}", colleagues)).status_code == 200

    run(scenario())


def test_a_team_lists_its_own_batches_and_the_operator_all(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), *_):
            await told(client, "/team/new", team_id="search")
            mine = await key_of(client, team_id="search")
            colleagues, others = await key_of(client, team_id="search"), await key_of(client)
            nobodys = await key_of(client)
            made = []
            for key in (mine, others, colleagues, others, others, mine):
                made.append(await created(client, key))
            made.reverse()
            ours, theirs = [made[0], made[3], made[5]], [made[1], made[2], made[4]]
            assert await listed(client, mine) == await listed(client, colleagues) == ours
            assert await listed(client, others, "?limit=2") == theirs[:2]
            assert await listed(client, others, f"?limit=2&after_id={theirs[1]}") == theirs[2:]
            assert await listed(client, others, f"?limit=2&before_id={theirs[2]}") == theirs[:2]
            assert await listed(client, nobodys) == []
            master = AS_MASTER["authorization"].removeprefix("Bearer ")
            assert await listed(client, master) == made
            refused = await called(client, "GET", f"{BATCHES}?limit=0", mine)
            assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
            await asyncio.to_thread(_pages_of_the_sdk, str(client.base_url), mine, ours)

    run(scenario())


def _pages_of_the_sdk(base_url, key, expected):
    with anthropic.Anthropic(base_url=f"{base_url.rstrip('/')}/anthropic", api_key=key) as sdk:
        pages = sdk.messages.batches.list(limit=1)
        assert [each.id for each in pages] == expected
        assert all(each.results_url.startswith(f"{sdk.base_url}v1/messages/") for each in pages)
        with pytest.raises(anthropic.NotFoundError):
            sdk.messages.batches.retrieve("msgbatch_nowhere")


def test_a_batch_that_a_list_has_shown_before_its_creator_is_answered_is_the_creators_all_the_same(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), upstream, _):
            key, master = await key_of(client), AS_MASTER["authorization"].removeprefix("Bearer ")
            batch_id = await created(client, master)
            shown = await called(client, "GET", f"{BATCHES}/{batch_id}", master)
            answer = json.dumps({**shown.json(), "results_url": None}).encode()
            # The answer to the call that made it comes last: what it shows was shown already.
            upstream.reply_next(CannedReply(headers=JSON, chunks=(answer,)))
            assert (await called(client, "GET", f"{BATCHES}/{batch_id}", master)).status_code == 200
            upstream.reply_next(CannedReply(headers=JSON, chunks=(answer,)))
            assert await created(client, key) == batch_id
            found = await called(client, "GET", f"{BATCHES}/{batch_id}", key)
            assert (found.status_code, await listed(client, key)) == (200, [batch_id])

    run(scenario())


def test_the_length_of_the_list_tells_a_caller_nothing_of_the_others(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), *_):
            assert (await called(client, "HEAD", BATCHES, await key_of(client))).status_code == 404

    run(scenario())


def test_a_list_is_a_callers_own_by_whatever_method_cursor_or_body_it_is_asked_for(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), upstream, _):
            key, others = await key_of(client), await key_of(client)
            own = await created(client, key)
            theirs = [await created(client, others) for _ in range(3)]
            await created(client, key)
            for cursor in ("after_id", "before_id", "after%5Fid"):
                for batch_id in (theirs[1], "msgbatch_nowhere"):
                    answer = await called(client, "GET", f"{BATCHES}?{cursor}={batch_id}", key)
                    assert answer.status_code == 404
            # A body that comes with the call is not announced with the calls for further pages.
            answer = await called(client, "GET", f"{BATCHES}?limit=1", key, content=b"x" * 100)
            assert (answer.status_code, len(answer.json()["data"])) == (200, 1)
            answer = await called(client, "GET", f"{BATCHES}?limit=2", key, content=b"x" * 100)
            assert answer.json()["data"][1]["id"] == own
            followed = [each for each in upstream.received if b"limit=1000" in each.target]
            assert followed
            for each in followed:
                names = {name.lower() for name, _ in each.headers}
                assert not names & {b"content-length", b"transfer-encoding", b"content-type"}
            assert await listed(client, key) == await listed(client, key, "?limit=1000")

    run(scenario())


def test_a_batch_of_the_operators_own_is_no_keys(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), *_):
            key = await key_of(client)
            master = AS_MASTER["authorization"].removeprefix("Bearer ")
            batch_id = await created(client, master)
            assert (await called(client, "GET", f"{BATCHES}/{batch_id}", master)).status_code == 200
            began = time.perf_counter()
            assert (await called(client, "GET", f"{BATCHES}/{batch_id}", key)).status_code == 404
            print(f"a 404 took {time.perf_counter() - began:.2f} s")
            assert await listed(client, key) == []

    run(scenario())


def test_no_spelling_of_a_path_leads_to_another_teams_batch(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), upstream, _):
            key = await key_of(client, allowed_routes=["/v1/messages*"])
            own, others = await created(client, key), await created(client, await key_of(client))
            upstream.finish_batch(others)
            spellings = [
                f"{BATCHES}/{own}/../{others}",
                f"{BATCHES}/{own}/%2e%2e/{others}/results",
                f"{BATCHES}/{own}%2F..%2F{others}",
                f"{BATCHES}/{others}/tomorrow",
                f"{BATCHES}//{others}",
                f"{BATCHES}/./{others}",
                f"{BATCHES}/{others}/",
                f"{BATCHES}/{others}%20",
                f"{BATCHES}/%{ord(others[0]):x}{others[1:]}",
                f"{BATCHES}\\{others}",
                f"{BATCHES}%5C{others}",
                f"{BATCHES}%2F{others}",
                f"/v1/messages/batches/{others}",
                f"//v1/messages/batches/{others}",
                f"/anthropic//v1/messages/batches/{others}/results",
            ]
            # As they are: httpx would resolve the dots.
            targets = [{"target": each.encode()} for each in spellings]
            answers = await asyncio.gather(
                *(called(client, "GET", "/", key, extensions=each) for each in targets)
            )
            told_of = {each: answer.status_code for each, answer in zip(spellings, answers, strict=True)}
            assert not [each for each, status in told_of.items() if status not in (400, 403, 404)], told_of
            assert all(others not in answer.text for answer in answers)
            asked_of_anthropic = {each.target for each in upstream.received}
            assert not [each for each in asked_of_anthropic if others.encode() in each], asked_of_anthropic

    run(scenario())
