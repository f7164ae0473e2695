"""A stack under a LiteLLM file: it serves, and nothing that it wrote anywhere holds a key or a prompt."""

import json
import re
import sys
from pathlib import Path

import clickhouse_connect
import httpx
import pytest
from anthropic import Anthropic, APIStatusError
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from tests.e2e.conftest import Stack

READ_S_MAX = 30.0
MASTER = "sk-planted-master-0123456789"
PASSWORD = "planted-password-0123456789"
PROMPT = "planted prompt of one person"
PLANTED = re.compile(rb"planted")
PROXY_CONFIG = """
model_list:
  - model_name: claude-sonnet-5-5
    litellm_params: {model: anthropic/claude-sonnet-5-5, api_key: os.environ/THEIR_KEY,
                     use_in_pass_through: true}
general_settings: {master_key: os.environ/THEIR_MASTER_KEY}
litellm_settings: {callbacks: [langfuse], disable_end_user_cost_tracking: true}
"""
SECRETS = {
    "THEIR_KEY": "sk-ant-planted-upstream-0123456789",
    "THEIR_MASTER_KEY": MASTER,
    "CLICKHOUSE_USER": "analyst",
    "CLICKHOUSE_PASSWORD": PASSWORD,
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "proxy_config.yaml").write_text(PROXY_CONFIG)
    environ = {**SECRETS, "TOLLHOUSE_CONFIG": str(folder / "proxy_config.yaml")}
    running = Stack(folder / "data", "--simulate", environ=environ)
    with httpx.Client(trust_env=False, timeout=READ_S_MAX) as running.http:
        yield running
    running.stop()


@pytest.fixture(scope="module")
def virtual_key(stack):
    """A key as its owner holds it; shown this once."""
    answer = admin(stack, "POST", "/key/generate", MASTER, {"key_alias": "ci"})
    assert answer.status_code == 200, answer.text
    return answer.json()["key"]


def admin(stack, method, path, key="", body=None):
    headers = {"authorization": f"Bearer {key}"} if key else {}
    url = f"http://127.0.0.1:{stack.port}{path}"
    return stack.http.request(method, url, headers=headers, json=body if method == "POST" else None)


def ask(stack, key, **more):
    headers = {"x-litellm-api-key": key, "cookie": "session=planted-cookie-0123456789"}
    client = Anthropic(
        base_url=stack.base_url,
        api_key="sk-ant-planted-own-0123456789",
        max_retries=0,
        default_headers=headers,
    )
    return client.messages.create(
        model="claude-sonnet-5-5", max_tokens=20, messages=[{"role": "user", "content": PROMPT}], **more
    )


def create_batch(stack):
    params = {
        "model": "claude-sonnet-5-5",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": PROMPT}],
    }
    body = {"requests": [{"custom_id": "one", "params": params}]}
    url = f"{stack.base_url}/v1/messages/batches"
    headers = {"x-api-key": MASTER, "anthropic-version": "2023-06-01"}
    return stack.http.post(url, json=body, headers=headers).status_code


def clickhouse(stack):
    return clickhouse_connect.get_client(
        host="127.0.0.1",
        port=stack.clickhouse_port,
        username="analyst",
        password=PASSWORD,
        autogenerate_session_id=False,
    )


def stored(client):
    """Every row of every table of ours, by its table."""
    tables = client.query("SELECT name FROM system.tables WHERE database = 'tollhouse_raw'").result_rows
    for (name,) in tables:
        yield name, client.raw_query(f"SELECT * FROM tollhouse_raw.{name} FORMAT JSONEachRow")


def published(stack):
    """Every record of every topic: key, value and headers."""
    consumer = Consumer(
        {"bootstrap.servers": stack.kafka, "group.id": "reader", "enable.partition.eof": True}
    )
    topics = consumer.list_topics(timeout=READ_S_MAX).topics
    places = [
        TopicPartition(name, number, OFFSET_BEGINNING)
        for name, topic in topics.items()
        if not name.startswith("__")
        for number in topic.partitions
    ]
    consumer.assign(places)
    ended = 0
    while ended < len(places):
        message = consumer.poll(READ_S_MAX)
        assert message is not None, "Kafka said no more"
        if message.error() is None:
            yield message.topic(), repr((message.key(), message.value(), message.headers())).encode()
        else:
            assert message.error().code() == KafkaError._PARTITION_EOF
            ended += 1
    consumer.close()


def found(named, *others):
    """Where anything that was planted stands, or a secret that was made meanwhile."""
    wanted = re.compile(b"|".join((PLANTED.pattern, *(re.escape(each.encode()) for each in others))))
    return [(name, text[:300]) for name, text in named if wanted.search(text)]


@pytest.mark.skipif(sys.platform != "linux", reason="an environment is read from /proc")
def test_keys_are_in_the_environment_of_those_who_use_them_alone(stack):
    seen = {
        child: sorted(
            secret for secret in SECRETS.values() if secret.encode() in environ_of(stack.pid_of(child))
        )
        for child in ("edge", "rating", "sink", "kafka", "clickhouse", "anthropic")
    }
    account = ["analyst", PASSWORD]
    assert seen == {
        "edge": ["analyst", MASTER],  # of a simulation the upstream key is its own
        "rating": ["analyst"],
        "sink": account,
        "kafka": ["analyst"],
        "clickhouse": account,
        "anthropic": ["analyst"],
    }


def environ_of(pid):
    return Path(f"/proc/{pid}/environ").read_bytes()


def test_no_administration_without_the_master_key(stack, virtual_key):
    """Every route that the gateway says it has; a developer's key opens only what tells of that key."""
    paths = admin(stack, "GET", "/openapi.json").json()["paths"]
    routes = [
        (method.upper(), path.replace("{key_in_path}", "x"))
        for path, methods in paths.items()
        for method in methods
        if path.startswith(("/key/", "/team/", "/customer/", "/end_user/"))
    ]
    assert len(routes) > 20
    shown = ("", "sk-wrong", MASTER.upper(), MASTER[:-1], f"{MASTER}x", virtual_key)
    answers = {
        (method, path, key): admin(stack, method, path, key, {}) for method, path in routes for key in shown
    }
    let_in = {asked for asked, answer in answers.items() if answer.status_code not in (401, 403)}
    assert let_in == {("GET", "/key/info", virtual_key)}
    texts = [(asked, answer.content) for asked, answer in answers.items()]
    assert found(texts, virtual_key) == []


def until_stored(client, count):
    """Wait, by asking the store, until the sink has brought so many usages."""
    for _ in range(int(READ_S_MAX * 10)):
        if client.query("SELECT count() FROM tollhouse.usage").result_rows[0][0] >= count:
            return
        client.query("SELECT sleep(0.1)")
    raise AssertionError("the usages did not arrive")


def test_a_stack_that_was_given_secrets_wrote_none_of_them_down(stack, virtual_key):
    assert ask(stack, virtual_key).usage.input_tokens > 0
    assert ask(stack, MASTER).usage.input_tokens > 0
    for chunk in ask(stack, MASTER, stream=True):
        assert chunk
    with pytest.raises(APIStatusError) as refused:
        ask(stack, "sk-planted-wrong-0123456789")
    assert refused.value.status_code == 401
    metadata = {"litellm_metadata": {"tags": ["t"], "user": "planted-end-user"}}
    ask(stack, MASTER, extra_body=metadata, metadata={"user_id": "planted-user-id"})
    assert create_batch(stack) == 200
    client = clickhouse(stack)
    until_stored(client, 4)

    rows, records = list(stored(client)), list(published(stack))
    assert {"usage", "requests", "responses"} <= {name for name, text in rows if text}
    assert {"gateway.usage.v1", "gateway.rated.v1"} <= {topic for topic, _ in records}
    assert (found(rows, virtual_key), found(records, virtual_key)) == ([], [])
    probes = [stack.port + step for step in (0, 1, 2, 4)]
    pages = [stack.http.get(f"http://127.0.0.1:{port}/metrics").content for port in probes]
    assert found(enumerate(pages), virtual_key) == []

    assert stack.stop() == 0
    stack._reader.join()
    files = [path for path in stack.data_dir.rglob("*") if path.is_file()]
    assert {"edge.log", "rating.log", "sink.log"} <= {path.name for path in files}
    assert found(((str(path), path.read_bytes()) for path in files), virtual_key) == []
    assert (
        found([("output", "\n".join(stack.lines).encode()), ("error", refused.value.response.content)]) == []
    )

    (started,) = [
        json.loads(line)
        for line in (stack.data_dir / "logs" / "edge.log").read_text().splitlines()
        if '"config.ignored"' in line
    ]
    assert (list(started["risks"]), started["harmless"]) == (["litellm_settings.callbacks"], [])
