"""Says to whom and to what an exchange is booked; carried whole by every event, so that none needs a join."""

import msgspec

from schemas.ids import VirtualKeyId


class Attribution(msgspec.Struct, frozen=True, kw_only=True):
    """Who caused an exchange, as known when it began.

    `client_app` and `client_version` are what the client calls itself (`claude-cli`, `Anthropic/Python`);
    the agent is a subagent of Claude Code; device and account are those of its `metadata.user_id`.
    """

    virtual_key_id: VirtualKeyId
    key_alias: str = ""
    team_id: str = ""
    end_user_id: str = ""
    session_id: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    client_app: str = ""
    client_version: str = ""
    agent_id: str = ""
    parent_agent_id: str = ""
    device_id: str = ""
    account_id: str = ""
