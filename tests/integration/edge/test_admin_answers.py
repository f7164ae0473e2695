"""What operators and the owners of keys are told: enough to know what to do next, in LiteLLM's words."""

import asyncio

import pytest

from tests.integration.edge.registry_stack import AS_MASTER, MASTER, MESSAGE, asked, sent, stack, told

TEST_S_MAX = 60.0


def run(test):
    asyncio.run(asyncio.wait_for(test, TEST_S_MAX))


def error(answer):
    return answer.status_code, answer.json()["error"]


def test_a_key_is_updated_by_its_alias_and_named_in_the_answer(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), *_):
            made = await told(client, "/key/generate", key_alias="backend", duration="30d")
            by_secret = await told(client, "/key/update", key=made["key"], tags=["a"])
            by_alias = await told(client, "/key/update", key_alias="backend", duration="-1")
            assert [each["key"] for each in (by_secret, by_alias)] == [made["token"]] * 2
            assert (by_alias["expires"], by_alias["tags"]) == (None, ["a"])
            nobody = await told(client, "/key/update", 404, key_alias="frontend", tags=["b"])
            assert nobody["error"] == {
                "message": "There is no such key.",
                "type": "not_found_error",
                "param": "key_alias",
                "code": "404",
            }
            unnamed = await told(client, "/key/update", 400, tags=["b"])
            assert unnamed["error"]["message"] == (
                "key: says which key is to be changed; key_alias may do so in its place."
            )

    run(scenario())


def test_a_field_that_must_be_given_is_named(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), *_):
            for path, param in (
                ("/key/block", "key"),
                ("/team/block", "team_id"),
                ("/team/delete", "team_ids"),
            ):
                answer = await told(client, path, 400)
                assert answer["error"] == {
                    "message": f"{param}: must be given.",
                    "type": "bad_request_error",
                    "param": param,
                    "code": "400",
                }

    run(scenario())


def test_a_rotation_without_grace_ends_every_secret_before_and_those_in_grace_are_shown(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), *_):
            first = await told(client, "/key/generate")
            second = await told(client, "/key/regenerate", key=first["key"], grace_period="1h")
            assert (len(first["grace_until"]), len(second["grace_until"])) == (0, 1)
            info = (await asked(client, "/key/info", key=second["key"]))["info"]
            assert info["grace_until"] == second["grace_until"]
            third = await told(client, "/key/regenerate", key=second["key"])
            assert third["grace_until"] == []
            answers = [(await sent(client, each["key"])).status_code for each in (first, second, third)]
            assert answers == [401, 401, 200]

    run(scenario())


def test_who_is_denied_a_model_or_a_route_reads_whose_list_it_is_and_what_stands_in_it(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), *_):
            await told(client, "/team/new", team_id="search", models=["claude-haiku-*"])
            key = (await told(client, "/key/generate", team_id="search", models=["claude-*"]))["key"]
            denied = await sent(client, key, body={**MESSAGE, "model": "claude-opus-5"})
            assert error(denied) == (
                403,
                {
                    "type": "permission_error",
                    "message": "The team of this API key may not use the model 'claude-opus-5'; it may use "
                    "claude-haiku-*.",
                },
            )
            item = {"custom_id": "a", "params": {**MESSAGE, "model": "gpt-5"}}
            batch = await sent(client, key, "/anthropic/v1/messages/batches", {"requests": [item]})
            assert error(batch) == (
                403,
                {
                    "type": "permission_error",
                    "message": "This API key may not use the model 'gpt-5'; it may use claude-*.",
                },
            )
            files = await client.get("/anthropic/v1/files", headers={"x-api-key": key})
            assert error(files) == (
                403,
                {
                    "type": "permission_error",
                    "message": "This API key may not use this endpoint; without allowed_routes it may use "
                    "messages, count_tokens, models and batches.",
                },
            )

    run(scenario())


@pytest.mark.parametrize("name", ["x-litellm-end-user-id", "x-litellm-customer-id"])
def test_white_space_behind_an_end_user_does_not_lead_around_a_block(tmp_path, name):
    async def scenario():
        async with stack(tmp_path) as ((client,), *_):
            key = (await told(client, "/key/generate"))["key"]
            await told(client, "/customer/block", user_ids=["evil"])
            host = client.base_url
            for blank in ("", " ", "\t", " \t "):
                reader, writer = await asyncio.open_connection(host.host, host.port)
                lines = ("host: e", f"x-api-key: {key}", f"{name}: evil{blank}", "connection: close")
                writer.write("\r\n".join(("GET /v1/models HTTP/1.1", *lines, "", "")).encode())
                answer = await reader.read()
                writer.close()
                assert answer.startswith(b"HTTP/1.1 401 "), answer

    run(scenario())


def test_a_gateway_without_a_credential_says_that_it_has_none_and_not_that_no_key_came(tmp_path):
    async def scenario():
        async with stack(tmp_path, gateway_key="") as ((client,), *_):
            key = (await told(client, "/key/generate"))["key"]
            for shown in (key, MASTER):
                status, body = error(await sent(client, shown))
                assert (status, body["type"]) == (401, "authentication_error")
                assert body["message"].startswith("The gateway has no credential for the Anthropic API")

    run(scenario())


def test_a_route_that_is_served_by_another_method_says_so(tmp_path):
    async def scenario():
        async with stack(tmp_path) as ((client,), *_):
            answer = await client.get("/key/generate", headers=AS_MASTER)
            assert error(answer) == (
                405,
                {
                    "type": "invalid_request_error",
                    "message": "This route is not served by this method; /openapi.json says which is.",
                },
            )
            nowhere = await client.post("/user/new", headers=AS_MASTER, json={})
            assert nowhere.status_code == 404
            assert "LiteLLM's routes below /key, /team and /customer" in nowhere.json()["error"]["message"]

    run(scenario())
