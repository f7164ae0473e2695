"""Aliases of a key through a real edge: which bytes go up, what is checked and booked, and what is shown."""

import asyncio
import gzip
import json

from schemas import codec, topics
from schemas.usage import UsageRecorded
from tests.integration.edge.registry_stack import AS_MASTER, MESSAGE, asked, sent, stack, told
from tests.integration.runtime.clients import read_all

TEST_S_MAX = 90.0
HAIKU = "claude-haiku-4-5"
OPUS = "claude-opus-4-5"
ALIASES = {"fast": f"anthropic/{HAIKU}", OPUS: HAIKU}
MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
BATCHES = "/v1/messages/batches"
# As no serialiser writes it, so that a body that was written anew would show.
BODY = b'{ "max_tokens":16,\t"model" : "%s" ,"messages":[{"role":"user","content":"fast"}]%s}\n'


def run(test):
    async def bounded():
        async with asyncio.timeout(TEST_S_MAX):
            await test

    asyncio.run(bounded())


async def posted(client, key, path, content, **headers):
    shown = {"x-api-key": key, "anthropic-version": "2023-06-01", "content-type": "application/json"}
    answer = await client.post(path, headers={**shown, **headers}, content=content)
    return answer.status_code


def last_up(upstream):
    """The body that went up last, after whether its coding was named and its length told."""
    received = upstream.received[-1]
    headers = {name.lower(): value for name, value in received.headers}
    assert int(headers[b"content-length"]) == len(received.body)
    return headers.get(b"content-encoding"), received.body


def test_a_model_goes_up_for_its_alias_and_every_other_byte_stays(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), upstream, kafka):
            key = (await told(client, "/key/generate", models=["claude-haiku-*"], aliases=ALIASES))["key"]
            ways = {
                "message": (MESSAGES, b"fast", b""),
                "another model": (MESSAGES, OPUS.encode(), b""),
                "escaped": (MESSAGES, b"f\\u0061st", b""),
                "stream": (MESSAGES, b"fast", b',"stream":true'),
                "count": (COUNT, b"fast", b""),
                "no alias": (MESSAGES, HAIKU.encode(), b""),
            }
            for what, (path, name, more) in ways.items():
                assert await posted(client, key, path, BODY % (name, more)) == 200, what
                assert last_up(upstream) == (None, BODY % (HAIKU.encode(), more)), what
            metadata = b',"litellm_metadata":{"user":"u"}'
            assert await posted(client, key, MESSAGES, BODY % (b"fast", metadata)) == 200
            assert last_up(upstream) == (None, BODY % (HAIKU.encode(), b""))
            coded = gzip.compress(BODY % (b"fast", b""))
            assert await posted(client, key, MESSAGES, coded, **{"content-encoding": "gzip"}) == 200
            assert last_up(upstream) == (None, BODY % (HAIKU.encode(), b""))
            coded = gzip.compress(BODY % (HAIKU.encode(), b""))
            assert await posted(client, key, MESSAGES, coded, **{"content-encoding": "gzip"}) == 200
            assert last_up(upstream) == (b"gzip", coded)
            booked = await used(kafka, len(ways) + 3)
            assert [each.model_requested for each in booked] == [HAIKU] * len(booked)

    run(scenario())


async def used(kafka, count):
    """The usage of all exchanges, once so many have arrived."""
    found = []
    while len(found) < count:
        found = [codec.decode(UsageRecorded, each.value) for each in await read_all(kafka, topics.USAGE, 12)]
    return found


def test_every_item_of_a_batch_goes_up_with_the_model_of_its_alias(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), upstream, _):
            key = (await told(client, "/key/generate", models=["claude-haiku-*"], aliases=ALIASES))["key"]
            names = ("fast", HAIKU, OPUS) * 500

            def body(models):
                items = [
                    {"custom_id": f"i-{number}", "params": {**MESSAGE, "model": model}}
                    for number, model in enumerate(models)
                ]
                return json.dumps({"requests": items}, indent=1).encode()

            assert await posted(client, key, BATCHES, body(names)) == 200
            assert last_up(upstream) == (None, body([HAIKU] * 1500))
            coded = gzip.compress(body(names))
            assert await posted(client, key, BATCHES, coded, **{"content-encoding": "gzip"}) == 200
            assert last_up(upstream) == (None, body([HAIKU] * 1500))
            received = len(upstream.received)
            assert await posted(client, key, BATCHES, body([*names, "claude-sonnet-4-5"])) == 403
            assert len(upstream.received) == received

    run(scenario())


def test_the_lists_of_key_and_team_are_about_the_model_that_goes_up(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), upstream, _):
            await told(client, "/team/new", team_id="search", models=[HAIKU])
            fast = {**MESSAGE, "model": "fast"}

            async def status(body=fast, path=MESSAGES, **fields):
                key = (await told(client, "/key/generate", **fields))["key"]
                return (await sent(client, key, path, body)).status_code

            batch = {"requests": [{"custom_id": "a", "params": fast}]}
            to_haiku, to_opus = {"fast": HAIKU}, {"fast": OPUS}
            assert await status(models=[HAIKU], aliases=to_haiku, team_id="search") == 200
            assert await status(models=["fast"], aliases=to_haiku) == 403
            assert await status(models=[HAIKU], aliases=to_opus) == 403
            assert await status(aliases=to_opus, team_id="search") == 403
            assert await status(batch, BATCHES, aliases=to_opus, team_id="search") == 403
            assert await status(batch, BATCHES, aliases=to_haiku, team_id="search") == 200
            assert await status({**MESSAGE, "model": "first"}, aliases={"first": "fast", **to_haiku}) == 404
            assert json.loads(upstream.received[-1].body)["model"] == "fast"  # one step, never a chain
            assert await status(aliases={"slow": OPUS}) == 404
            assert (
                json.loads(upstream.received[-1].body)["model"] == "fast"
            )  # of another key's nothing counts
            routes = ["llm_api_routes", "/v1/*"]
            await status(path="/v1/complete", allowed_routes=routes, aliases=to_haiku)
            assert json.loads(upstream.received[-1].body)["model"] == "fast"

    run(scenario())


def test_the_admin_api_shows_the_aliases_that_are_in_force(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), *_):
            made = await told(client, "/key/generate", models=["claude-haiku-*"], aliases=ALIASES)
            own = await client.get("/key/info", headers={"x-api-key": made["key"]})
            page = await asked(client, "/key/list", return_full_object="true")
            rotated = await told(client, "/key/regenerate", key=made["key"])
            shown = [made, own.json()["info"], page["keys"][0], rotated]
            assert [each["aliases"] for each in shown] == [ALIASES] * 4
            fast = {**MESSAGE, "model": "fast"}
            assert (await sent(client, rotated["key"], body=fast)).status_code == 200
            changed = await told(client, "/key/update", key=rotated["key"], aliases={})
            assert changed["aliases"] == {}
            assert (await sent(client, rotated["key"], body=fast)).status_code == 403
            refused = await client.post("/team/new", headers=AS_MASTER, json={"aliases": {"fast": HAIKU}})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "aliases")

    run(scenario())
