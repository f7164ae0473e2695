"""What /openapi.json says of the admin API is what a running edge takes and answers."""

import asyncio
import itertools
import json
from collections import defaultdict

from services.edge.admin.desk import BODY_BYTES_MAX
from services.local.ports import free_ports
from services.runtime.kafka import KafkaConfig
from tests.integration.edge.open_api import Document, type_of
from tests.integration.edge.registry_stack import AS_MASTER, edge, stack, told, until_ready

TEST_S_MAX = 120.0
# Values of every type, some of them within an array or an object.
SAMPLES = [None, True, 1, 1.5, "text", [], [None], [1], {}, {"a": None}, {"a": 1}, {"a": {"b": 1}}]
BUDGETS = {"claude-*": {"budget_limit": 0.5}, "b": {"budget_limit": "0.25", "time_period": "30d"}}
TAKEN = {
    "max_budget": [2, 0.5, "0.25"],
    "soft_budget": [2, 0.5, "0.25"],
    "models": [["claude-*"]],
    "tags": [["a"]],
    "model_max_budget": [BUDGETS],
    "metadata": [{"text": "a", "number": 1, "flag": True, "none": None, "tags": ["a"]}],
    "aliases": [{"fast": "claude-haiku-4-5"}],
    "allowed_routes": [["/v1/files*", "anthropic_routes"]],
    "blocked": [False],
    "budget_duration": ["30d"],
    "duration": ["30d"],
    "grace_period": ["1h"],
    "on_disconnect": ["cancel"],
    "team_id": ["search"],
}


class Asked:
    """Asks an edge for what its document describes, and holds each request and answer to it."""

    def __init__(self, client, document):
        self._client = client
        self._document = document
        self.statuses = defaultdict(set)
        self.faults = []

    async def __call__(self, route, *body, query=None, headers=AS_MASTER, client=None, name=""):
        """Send a request and give its status; one that is well for the edge must be so by the document."""
        query = query or {}
        answer = await (client or self._client).request(
            route.method,
            route.path.replace("{key}", name),
            headers=headers,
            params=query,
            content=json.dumps(body[0]) if body else None,
        )
        self.statuses[route].add(answer.status_code)
        faults = list(self._document.answer_faults(route, answer))
        if answer.status_code not in (400, 413):
            faults += self._document.request_faults(route, query, list(body))
        self.faults += [f"{route}: {fault}, of {body}: {answer.text}" for fault in faults]
        return answer.status_code


class Records:
    """Records to ask for: a key, a team and a customer that stay, and others that may go."""

    def __init__(self, client):
        self._client = client
        self._numbers = itertools.count()
        self.key = {}

    async def make(self):
        await self.made("/team/new", team_id="search")
        await self.made("/customer/new", user_id="ada")
        self.key = await self.made("/key/generate", key_alias="backend", team_id="search")
        return self

    async def made(self, path, **body):
        return await told(self._client, path, **body)

    def new(self, what):
        """Give a name that nobody has."""
        return f"{what}-{next(self._numbers):030}"

    async def query(self, path):
        """Give what a question must say."""
        return {
            "/key/info": {"key": self.key["token"]},
            "/team/info": {"team_id": "search"},
            "/customer/info": {"end_user_id": "ada"},
        }.get(path.replace("/end_user/", "/customer/"), {})

    async def body(self, path):
        """Give what a change must say."""
        path = path.replace("/end_user/", "/customer/")
        if path == "/key/delete":
            gone = [await self.made("/key/generate", key_alias=self.new("alias")) for _ in range(2)]
            return {"keys": [gone[0]["token"]], "key_aliases": [gone[1]["key_alias"]]}
        if path == "/team/delete":
            return {"team_ids": [(await self.made("/team/new"))["team_id"]]}
        if path == "/customer/delete":
            return {"user_ids": [(await self.made("/customer/new", user_id=self.new("user")))["user_id"]]}
        by_id = {"key": self.key["virtual_key_id"]}
        return {
            "/key/update": {**by_id, "key_alias": "backend"},
            "/key/regenerate": by_id,
            "/key/block": by_id,
            "/key/unblock": by_id,
            "/team/new": {"team_id": self.new("team")},
            "/team/update": {"team_id": "search"},
            "/team/block": {"team_id": "search"},
            "/team/unblock": {"team_id": "search"},
            "/customer/new": {"user_id": self.new("user")},
            "/customer/update": {"user_id": "ada"},
            "/customer/block": {"user_ids": ["ada"]},
            "/customer/unblock": {"user_ids": ["ada"]},
        }.get(path, {})

    def values(self, field):
        """Give values to try a field with."""
        own = TAKEN.get(field) or [self.new("sk" if field in ("key", "new_key") else "text")]
        # 1 is read as true where a truth is asked for, which the document does not promise.
        return [*own, *(each for each in SAMPLES if field != "blocked" or each is True or each != 1)]


def run(test):
    async def bounded():
        async with asyncio.timeout(TEST_S_MAX):
            await test

    asyncio.run(bounded())


async def described(client):
    answer = await client.get("/openapi.json")
    assert answer.status_code == 200
    return Document(answer.json())


def test_the_statuses_and_the_shapes_that_are_described_are_those_that_are_served(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), upstream, _):
            document = await described(client)
            assert list(document.faults()) == []
            records, asked = await Records(client).make(), Asked(client, document)
            away = KafkaConfig(bootstrap_servers=f"127.0.0.1:{free_ports(1)}", request_timeout_ms=5_000)
            async with edge(tmp_path / "unread", upstream, away) as unread:
                await until_ready(unread, 503)
                for route in document.routes:
                    await _provoke(asked, route, records, unread)
            assert asked.faults == []
            assert asked.statuses == {route: document.statuses(route) for route in document.routes}
            refusals = [
                response["content"]
                for operation in document.routes.values()
                for status, response in operation["responses"].items()
                if status != "200"
            ]
            one = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
            assert [each for each in refusals if each != one] == []

    run(scenario())


async def _provoke(asked, route, records, unread):
    """Bring about every answer of a route."""
    name, query = records.key["virtual_key_id"], await records.query(route.path)
    body = [await records.body(route.path)] if route.method == "POST" else []
    assert await asked(route, *body, query=query, name=name) == 200
    assert await asked(route, *body, query={**query, "nonsense": "1"}, name=name) == 400
    assert await asked(route, *body, query=query, name=name, headers={}) == 401
    as_key = {"x-api-key": (await records.made("/key/generate"))["key"]}
    assert await asked(route, *body, query=query, name=name, headers=as_key) == 403
    assert await asked(route, *body, query=query, name=name, client=unread) == 503
    if route.method == "POST":
        assert await asked(route, "a" * BODY_BYTES_MAX, name=name) == 413
    # Somebody whom nobody knows: where a name may be new, that is no fault, and none is described.
    nobody = records.new("sk-nobody")
    for each in body:
        body = [{field: [nobody] if isinstance(said, list) else nobody for field, said in each.items()}]
    await asked(route, *body, query=dict.fromkeys(query, nobody), name=nobody)


def test_every_type_that_a_field_is_said_to_have_is_taken_and_no_other(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), *_):
            document = await described(client)
            records, asked = await Records(client).make(), Asked(client, document)
            taken = {}
            for route in document.routes:
                schema, is_required = document.body_of(route)
                if schema is not None:
                    taken[route] = await _types_taken(asked, route, records, document.fields(schema))
                    name = records.key["virtual_key_id"]
                    assert await asked(route, name=name) == (400 if is_required else 200)
                    for refused in (None, [], {"nonsense": 1}):
                        assert await asked(route, refused, name=name) == 400
                        assert list(document.request_faults(route, {}, [refused])) != []
            assert asked.faults == []
            assert taken == {route: document.fields(document.body_of(route)[0]) for route in taken}
            assert len(taken) == 22

    run(scenario())


async def _types_taken(asked, route, records, fields):
    """Give, of each field, the types of the values that were taken."""
    taken = {field: set() for field in fields}
    for field in fields:
        for change in ({}, *({field: value} for value in records.values(field))):
            body = {**await records.body(route.path), **change}
            if await asked(route, body, name=records.key["virtual_key_id"]) == 200:
                for each, said in body.items():
                    taken[each].add(type_of(said))
    # What is an integer is a number as well.
    return {field: types - {"integer"} if "number" in types else types for field, types in taken.items()}


def test_queries_and_lists_are_as_described(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), *_):
            document = await described(client)
            records, asked = await Records(client).make(), Asked(client, document)
            await records.made("/key/generate", max_budget=1, model_max_budget=BUDGETS, duration="1d")
            queries = {
                "/key/list": [
                    {"page": 2, "size": 1, "return_full_object": False},
                    {"size": 100, "return_full_object": True},
                    {"user_id": "ada", "team_id": "search", "key_alias": "backend"},
                ],
                "/key/aliases": [{"page": 1, "size": 100}],
            }
            for route in document.routes:
                for query in queries.get(route.path, []):
                    assert await asked(route, query=query) == 200
            assert asked.faults == []

    run(scenario())
