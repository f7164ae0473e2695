"""Claude Code holds a whole conversation with tools through the gateway, and every token of it is booked."""

import json
from decimal import Decimal

import pytest

from services.edge.config import EdgeConfig, UpstreamConfig
from services.local.anthropic.server import SimulatedAnthropic
from tests.clients.claude_code import MODEL, ClaudeCode, call
from tests.e2e.conftest import Stack
from tests.integration.edge.harness import Edge

TEXT = "Tollhouse counted every token that passed the gate, once and only once."
GATEWAY_KEY = "sk-ant-gateway"
WAYS = {
    "key": {"ANTHROPIC_API_KEY": "sk-caller", "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1"},
    "token and quiet": {
        "ANTHROPIC_AUTH_TOKEN": "sk-caller",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    },
}


@pytest.fixture(scope="module")
def upstream():
    with SimulatedAnthropic.in_thread(api_key=GATEWAY_KEY) as simulated:
        yield simulated


@pytest.fixture
def edge(tmp_path, upstream):
    config = EdgeConfig(upstream=UpstreamConfig(base_url=upstream.base_url, api_key=GATEWAY_KEY))
    with Edge(tmp_path / "spool", config) as running:
        yield running


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    running = Stack(tmp_path_factory.mktemp("stack"), "--simulate")
    yield running
    assert running.stop() == 0


@pytest.fixture
def claude(tmp_path, edge):
    return ClaudeCode(tmp_path, edge.base_url + "/anthropic")


def targets(upstream):
    return [(request.method, request.target) for request in upstream.received]


def tool_results(upstream):
    """What the last request says that the tools gave."""
    turns = json.loads(upstream.received[-1].body)["messages"]
    blocks = [block for turn in turns if turn["role"] == "user" for block in turn["content"]]
    return [
        block["content"] for block in blocks if isinstance(block, dict) and block["type"] == "tool_result"
    ]


@pytest.mark.parametrize("way", WAYS)
def test_a_conversation_with_tools(claude, upstream, edge, way):
    upstream.received.clear()
    (claude.work / "toll.txt").write_text("The toll is seven.\n")
    report = claude.run(
        "What is the toll?",
        call("Bash", command="echo passed > made.txt", description="Write a file"),
        call("Read", file_path=str(claude.work / "toll.txt")),
        **WAYS[way],
    )
    assert (report["subtype"], report["result"], report["num_turns"]) == ("success", TEXT, 3)
    assert (claude.work / "made.txt").read_text() == "passed\n"
    assert "The toll is seven." in str(tool_results(upstream)[-1])
    asked = targets(upstream)
    assert [each for each in asked if each[0] == "POST"] == [("POST", b"/v1/messages?beta=true")] * 3
    others = {"key": {("HEAD", b"/api/hello"), ("GET", b"/v1/models?limit=1000")}, "token and quiet": set()}
    assert {each for each in asked if each[0] != "POST"} == others[way]
    messages = [each.used for each in edge.take() if each.used.operation == "messages"]
    assert [(used.outcome, used.usage_status) for used in messages] == [("completed", "final")] * 3
    who = messages[0].attribution
    assert (who.client_app, who.session_id) == ("claude-cli", report["session_id"])
    assert sum(used.tokens.output_tokens for used in messages) == report["usage"]["output_tokens"]


def test_behind_a_master_key_its_probe_without_a_key_is_refused_and_nothing_else_is(tmp_path, upstream):
    upstream.received.clear()
    config = EdgeConfig(
        master_key="sk-master", upstream=UpstreamConfig(base_url=upstream.base_url, api_key=GATEWAY_KEY)
    )
    with Edge(tmp_path / "spool", config) as edge:
        claude = ClaudeCode(tmp_path, edge.base_url + "/anthropic")
        report = claude.run("Look.", call("Bash", command="pwd"), ANTHROPIC_AUTH_TOKEN="sk-master")
        booked = [each.used.attribution.virtual_key_id for each in edge.take()]
    assert (report["subtype"], report["result"]) == ("success", TEXT)
    assert booked == ["master"] * 2
    assert targets(upstream) == [("POST", b"/v1/messages?beta=true")] * 2


def test_subagents_are_booked_by_their_ids_and_those_of_their_parents(claude, edge):
    """Each agent is offered the same tool again, so each starts one more, as deep as Claude Code allows."""
    ask = call("Agent", description="Ask", prompt="What is the toll?", subagent_type="general-purpose")
    report = claude.run("Ask somebody.", ask, **WAYS["token and quiet"])
    assert (report["subtype"], report["result"]) == ("success", TEXT)
    used = [each.used for each in edge.take() if each.used.operation == "messages"]
    assert {each.attribution.session_id for each in used} == {report["session_id"]}
    parents = {each.attribution.agent_id: each.attribution.parent_agent_id for each in used}
    subagents = [agent for agent in parents if agent]
    assert len(subagents) == report["subagent_stats"]["spawned"] > 1
    assert parents == dict(zip(["", *subagents], ["", "", *subagents], strict=False))
    told = report["modelUsage"][MODEL]
    assert [sum(each.tokens.output_tokens for each in used), sum(map(cache_read, used))] == [
        told["outputTokens"],
        told["cacheReadInputTokens"],
    ]


def cache_read(used):
    return used.tokens.cache_read_tokens


@pytest.mark.parametrize("way", WAYS)
def test_the_rows_cost_what_claude_code_says(tmp_path, stack, way):
    claude = ClaudeCode(tmp_path, stack.base_url)
    report = claude.run("Look.", call("Bash", command="pwd", description="Look"), **WAYS[way])
    session = report["session_id"]
    columns = (
        "endpoint, operation, is_stream, model_served, outcome, usage_status, stop_reason, client_app, "
        "client_version != '', device_id != '', end_user_id = device_id, agent_id, cost_status, cost_usd"
    )
    query = f"SELECT {columns} FROM tollhouse.usage WHERE session_id = '{session}' ORDER BY started_at"
    rows = stack.rows(query, 2)
    ends = ("tool_use", "end_turn")
    told = [
        (
            "/v1/messages",
            "messages",
            True,
            MODEL,
            "completed",
            "final",
            end,
            "claude-cli",
            1,
            1,
            1,
            "",
            "priced",
        )
        for end in ends
    ]
    assert [row[:-1] for row in rows] == told
    assert sum(row[-1] for row in rows) == Decimal(str(round(report["total_cost_usd"], 9)))
