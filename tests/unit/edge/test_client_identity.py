"""What a client calls itself, read out of the headers that it sends."""

import pytest

from services.edge.client_identity import ClaudeCodeUser, ClientApp, claude_code_user, client_app

AGENTS = [
    (b"claude-cli/2.1.330 (external, sdk-cli)", ClientApp("claude-cli", "2.1.330")),
    (b"Anthropic/Python 2.12.0", ClientApp("Anthropic/Python", "2.12.0")),
    (b"AsyncAnthropic/Python 1.17.0", ClientApp("AsyncAnthropic/Python", "1.17.0")),
    (b"Anthropic/JS 1.12.0", ClientApp("Anthropic/JS", "1.12.0")),
    (b"curl/8.5.0", ClientApp("curl", "8.5.0")),
    (b"python-requests/2.32 extra/1", ClientApp("python-requests", "2.32")),
    (b"my agent", ClientApp("my", "")),
    (b"/x", ClientApp()),
    (b"", ClientApp()),
]


@pytest.mark.parametrize(("agent", "expected"), AGENTS)
def test_the_user_agent_names_the_client_and_its_version(agent, expected):
    assert client_app([(b"user-agent", agent)]) == expected


@pytest.mark.parametrize("agent", [b"Mozilla/5.0 (X11) Chrome/140", b""])
def test_an_sdk_in_a_browser_is_named_by_its_own_headers(agent):
    headers = [
        (b"user-agent", agent),
        (b"x-stainless-lang", b"js"),
        (b"x-stainless-package-version", b"1.12.0"),
    ]
    assert client_app(headers) == ClientApp("Anthropic/JS", "1.12.0")


def test_a_browser_without_an_sdk_is_a_browser():
    assert client_app([(b"user-agent", b"Mozilla/5.0 (X11) Chrome/140")]) == ClientApp("Mozilla", "5.0")


def test_without_a_user_agent_an_application_may_name_itself():
    assert client_app([(b"x-app", b"cli")]) == ClientApp("cli", "")


@pytest.mark.parametrize(
    ("user_id", "expected"),
    [
        ('{"device_id":"d","account_uuid":"a","session_id":"s"}', ClaudeCodeUser("d", "a", "s")),
        ('{"device_id":"d","account_uuid":null,"new":[1]}', ClaudeCodeUser("d", "", "")),
        ("user_0f_account__session_1-2", ClaudeCodeUser("0f", "", "1-2")),
        ("user_0f_account_a-1_session_1-2x", ClaudeCodeUser()),
        ("{", ClaudeCodeUser()),
        ('{"device_id":["d"]}', ClaudeCodeUser()),
        ("{" * 5000, ClaudeCodeUser()),
        ("\ud800", ClaudeCodeUser()),
        ("", ClaudeCodeUser()),
    ],
)
def test_claude_codes_user_id_is_split_where_it_is_one(user_id, expected):
    assert claude_code_user(user_id) == expected
