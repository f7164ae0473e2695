"""What a user of LiteLLM's Anthropic pass-through types works here with another base URL, and is booked."""

import json
import shutil
from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import anthropic
import pytest
from anthropic import Anthropic

from schemas.attribution import Attribution
from schemas.usage import TokenCounts
from tests.integration.edge.harness import usage_of
from tests.integration.edge.registry_stack import GATEWAY_KEY, MASTER
from tests.integration.edge.shell_stack import Gateway

MODEL = "claude-sonnet-5-5"
ASKED = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "How deep is it?"}]}
COUNTED = {"model": MODEL, "messages": ASKED["messages"]}
ITEMS = [{"custom_id": "first", "params": ASKED}, {"custom_id": "second", "params": ASKED}]
SAID = {"tags": ["page", "key-tag"], "user": "ada"}

X_API_KEY = '"x-api-key: $LITELLM_API_KEY"'
SHOWN_AS = {
    "x-api-key": X_API_KEY,
    "Bearer": '"Authorization: Bearer $LITELLM_API_KEY"',
    "bearer": '"Authorization: bearer $LITELLM_API_KEY"',
    "x-litellm-api-key": '"x-litellm-api-key: Bearer $LITELLM_API_KEY"',
}
SDK_SHOWN_AS = {"x-api-key": "api_key", "Bearer": "auth_token"}


class Example(NamedTuple):
    """One call, as it is typed and as the SDK makes it, and what is booked of it."""

    name: str
    typed: str
    asked: dict
    sdk: Callable
    operation: str = "messages"
    endpoint: str = "/v1/messages"
    tags: tuple = ("key-tag", "team-tag")
    end_user: str = ""


def _typed(path, body, *headers, opening="curl --request POST --url {url}"):
    """Write a command as it stands on a page, with a line for each header."""
    lines = [
        opening.format(url=f'"$PROXY_BASE_URL"/anthropic{path}'),
        *(f"--header {each}" for each in (X_API_KEY, "'anthropic-version: 2023-06-01'", *headers)),
        "--header 'content-type: application/json'",
        f"--data '{json.dumps(body, indent=2)}'",
    ]
    return " \\\n  ".join(lines)


EXAMPLES = [
    Example(
        "quick start",
        _typed("/v1/messages", ASKED, opening="curl {url}"),
        ASKED,
        lambda sdk: sdk.messages.create(**ASKED),
    ),
    Example(
        "messages",
        _typed("/v1/messages", ASKED, "'accept: application/json'"),
        ASKED,
        lambda sdk: sdk.beta.messages.create(**ASKED),
    ),
    Example(
        "token counting",
        _typed("/v1/messages/count_tokens", COUNTED, "'anthropic-beta: token-counting-2024-11-01'"),
        COUNTED,
        lambda sdk: sdk.messages.count_tokens(**COUNTED),
        operation="count_tokens",
        endpoint="/v1/messages/count_tokens",
    ),
    Example(
        "batches",
        _typed("/v1/messages/batches", {"requests": ITEMS}, "'anthropic-beta: message-batches-2024-09-24'"),
        {"requests": ITEMS},
        lambda sdk: sdk.messages.batches.create(requests=ITEMS),
        operation="batches",
        endpoint="/v1/messages/batches",
    ),
    Example(
        "litellm_metadata",
        _typed("/v1/messages", {**ASKED, "litellm_metadata": SAID}),
        ASKED,
        lambda sdk: sdk.messages.create(**ASKED, extra_body={"litellm_metadata": SAID}),
        tags=("key-tag", "team-tag", "page"),
        end_user="ada",
    ),
]
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    assert shutil.which("curl"), "these tests run curl, which is not installed"
    with Gateway(tmp_path_factory.mktemp("page")) as running:
        yield running


def _posted(path, body):
    return f"""curl -X POST "$PROXY_BASE_URL"{path} -H "Authorization: Bearer $LITELLM_MASTER_KEY" \\
      -H 'Content-Type: application/json' -d '{json.dumps(body)}'"""


def _made(gateway, path, body):
    """Make a key or a team as an operator does."""
    answer = gateway.curl(_posted(path, body), "")
    assert answer.status == 200, answer
    return answer.body


@pytest.fixture(scope="module")
def made(gateway):
    """A key with an alias and tags, of a team with a tag."""
    _made(gateway, "/team/new", {"team_id": "wells", "tags": ["team-tag"]})
    return _made(gateway, "/key/generate", {"key_alias": "bucket", "team_id": "wells", "tags": ["key-tag"]})


@pytest.fixture
def sdk_of(gateway, monkeypatch):
    """Make SDKs that have nothing but a base URL and one credential."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    opened = []

    def open_one(**credential):
        opened.append(Anthropic(base_url=gateway.url + "/anthropic", max_retries=0, **credential))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def expected_of(example, answer, used, made, client_app):
    """The whole usage event of an example, by what its answer says."""
    spoken = {}
    if example.operation == "messages":
        usage = answer["usage"]
        spoken = {
            "usage_status": "final",
            "model_served": answer["model"],
            "message_id": answer["id"],
            "stop_reason": answer["stop_reason"],
            "tokens": TokenCounts(input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"]),
            "service_tier": usage["service_tier"],
            "inference_geo": used.inference_geo,
            "speed": used.speed,
            "usage": used.usage,
        }
    return usage_of(
        SimpleNamespace(used=used),
        operation=example.operation,
        endpoint=example.endpoint,
        model_requested=example.asked.get("model", ""),
        upstream_request_id=used.upstream_request_id,
        attribution=Attribution(
            virtual_key_id=made["virtual_key_id"],
            key_alias="bucket",
            team_id="wells",
            end_user_id=example.end_user,
            tags=example.tags,
            client_app=client_app,
            client_version=used.attribution.client_version,
        ),
        **spoken,
    )


def assert_is_anthropics(example, answer):
    """Look for what only Anthropic's own answer to this call has."""
    if example.operation == "messages":
        said = {name: answer[name] for name in ("type", "role", "model")}
        assert said == {"type": "message", "role": "assistant", "model": MODEL}
        assert answer["id"].startswith("msg_") and answer["content"][0]["text"]
        assert min(answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]) > 0
    elif example.operation == "count_tokens":
        assert list(answer) == ["input_tokens"] and answer["input_tokens"] > 0
    else:
        said = (answer["type"], answer["processing_status"], answer["request_counts"]["processing"])
        assert said == ("message_batch", "in_progress", len(ITEMS))


def assert_went_up_alone(gateway, example, key):
    """Of what is meant for the gateway nothing goes up; of the rest, everything."""
    sent = gateway.upstream.received[-1]
    assert json.loads(sent.body) == example.asked
    shown = [(name.lower(), value) for name, value in sent.headers]
    credentials = [each for each in shown if each[0] in (b"x-api-key", b"authorization")]
    assert credentials == [(b"x-api-key", GATEWAY_KEY.encode())]
    assert [name for name, value in shown if key.encode() in value] == []


def assert_is_booked(gateway, example, answer, request_id, made, client_app):
    used = gateway.used(request_id)
    assert used == expected_of(example, answer, used, made, client_app)
    if example.operation == "batches":
        created = gateway.created(answer["id"])
        assert (created.requests, created.models) == (len(ITEMS), (MODEL,))
        assert created.attribution == used.attribution


@each_example
@pytest.mark.parametrize("shown", SHOWN_AS.values(), ids=SHOWN_AS)
def test_curl_is_answered_by_anthropic_and_booked_to_its_key(gateway, made, example, shown):
    answer = gateway.curl(example.typed.replace(X_API_KEY, shown), made["key"])
    assert answer.status == 200, answer
    assert_is_anthropics(example, answer.body)
    assert_went_up_alone(gateway, example, made["key"])
    assert_is_booked(gateway, example, answer.body, answer.request_id, made, "curl")


@each_example
@pytest.mark.parametrize("shown", SDK_SHOWN_AS.values(), ids=SDK_SHOWN_AS)
def test_the_sdk_is_answered_by_anthropic_and_booked_to_its_key(gateway, made, sdk_of, example, shown):
    answer = example.sdk(sdk_of(**{shown: made["key"]}))
    body = answer.to_dict(mode="json")
    assert_is_anthropics(example, body)
    assert_went_up_alone(gateway, example, made["key"])
    assert_is_booked(gateway, example, body, answer._request_id, made, "Anthropic/Python")


def test_a_key_that_was_generated_with_nothing_said_works_and_is_booked_under_its_id_alone(gateway):
    made = _made(gateway, "/key/generate", {})
    assert made["key"].startswith("sk-") and made["key"].endswith(made["key_name"][-4:])
    answer = gateway.curl(EXAMPLES[0].typed, made["key"])
    booked = gateway.used(answer.request_id).attribution
    assert answer.status == 200
    assert booked == Attribution(
        virtual_key_id=made["virtual_key_id"], client_app="curl", client_version=booked.client_version
    )


def test_the_master_key_is_a_key_too(gateway):
    answer = gateway.curl(EXAMPLES[0].typed, MASTER)
    assert (answer.status, gateway.used(answer.request_id).attribution.virtual_key_id) == (200, "master")


def test_a_call_without_a_version_gets_anthropics_own_word_for_it_and_is_booked(gateway, made):
    """Some commands on such pages leave anthropic-version out; no gateway may choose one for a client."""
    typed = EXAMPLES[-1].typed.replace("--header 'anthropic-version: 2023-06-01'", "")
    answer = gateway.curl(typed, made["key"])
    used = gateway.used(answer.request_id)
    assert answer.status == 400
    assert answer.body["error"] == {
        "type": "invalid_request_error",
        "message": "anthropic-version: header is required",
    }
    assert (used.outcome, used.http_status, used.error_type) == (
        "upstream_error",
        400,
        "invalid_request_error",
    )
    assert (used.attribution.virtual_key_id, used.attribution.end_user_id) == (made["virtual_key_id"], "ada")


# More than one piece of a body on its way, so that the last item comes well after the first.
MANY_ITEMS = 2_000


def test_a_batch_whose_last_item_asks_for_a_forbidden_model_is_refused_and_nothing_goes_up(
    gateway, sdk_of, tmp_path
):
    made = _made(gateway, "/key/generate", {"key_alias": "narrow", "models": [MODEL]})
    allowed = [{"custom_id": f"item-{number}", "params": ASKED} for number in range(MANY_ITEMS)]
    last = {"custom_id": "last", "params": {**ASKED, "model": "claude-opus-5-5"}}
    body = tmp_path / "batch.json"
    body.write_text(json.dumps({"requests": [*allowed, last]}))
    arrived, batches = len(gateway.upstream.received), gateway.batches
    answer = gateway.curl(
        f"""curl "$PROXY_BASE_URL"/anthropic/v1/messages/batches --header {X_API_KEY} \\
          --header 'anthropic-version: 2023-06-01' --header 'content-type: application/json' \\
          --data @{body}""",
        made["key"],
    )
    assert (answer.status, sorted(answer.body), answer.body["type"]) == (
        403,
        ["error", "request_id", "type"],
        "error",
    )
    assert answer.body["error"]["type"] == "permission_error"
    assert "may not use the model" in answer.body["error"]["message"]
    assert answer.body["request_id"] == answer.request_id
    with pytest.raises(anthropic.PermissionDeniedError) as caught:
        sdk_of(api_key=made["key"]).messages.batches.create(requests=[*allowed, last])
    assert caught.value.body["error"] == answer.body["error"]
    for request_id in (answer.request_id, caught.value.request_id):
        used = gateway.used(request_id)
        told = (used.outcome, used.http_status, used.operation, used.attribution.key_alias)
        assert told == ("refused", 403, "batches", "narrow")
    assert len(gateway.upstream.received) == arrived
    only_allowed = sdk_of(api_key=made["key"]).messages.batches.create(requests=allowed[:1])
    assert gateway.created(only_allowed.id).attribution.key_alias == "narrow"
    assert gateway.batches == batches | {only_allowed.id}
