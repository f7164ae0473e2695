"""Reads what a client says of itself: its name and version, and whom Claude Code's user id is made of."""

import re
from typing import NamedTuple

import msgspec

from schemas.codec import UNREADABLE
from services.edge.headers import RawHeaders, first

# The version follows the name in "Anthropic/Python 2.12.0", and the slash in "claude-cli/2.1.330 (external)".
_SDK = re.compile(r"([^\s/]+/[A-Za-z][^\s/]*) +(\d\S*)")
_PRODUCT = re.compile(r"([^\s/]+)(?:/(\S+))?")
# x-stainless-lang in the spelling of the SDKs' own user agents; the others begin with a capital.
_LANGUAGES = {"js": "JS", "php": "PHP", "csharp": "C#"}
# Claude Code before 2.1.78; the account is empty where it is used with a key.
_OLDER_USER_ID = re.compile(r"user_([0-9a-f]+)_account_([0-9a-fA-F-]*)_session_([0-9a-fA-F-]*)")


class ClientApp(NamedTuple):
    """What a client calls itself."""

    name: str = ""
    version: str = ""


class ClaudeCodeUser(NamedTuple):
    """What Claude Code puts into `metadata.user_id`; empty where it is another client's."""

    device_id: str = ""
    account_id: str = ""
    session_id: str = ""


class _UserId(msgspec.Struct):
    device_id: str | None = None
    account_uuid: str | None = None
    session_id: str | None = None


_USER_ID = msgspec.json.Decoder(_UserId)


def client_app(headers: RawHeaders) -> ClientApp:
    """Name the client; a browser's SDK by its x-stainless headers, since it cannot choose its user agent."""
    agent = first(headers, b"user-agent")
    if agent.startswith("Mozilla/") or not agent:
        language = first(headers, b"x-stainless-lang")
        if language:
            name = _LANGUAGES.get(language, language.capitalize())
            return ClientApp(f"Anthropic/{name}", first(headers, b"x-stainless-package-version"))
        agent = agent or first(headers, b"x-app")
    found = _SDK.match(agent) or _PRODUCT.match(agent)
    return ClientApp(found[1], found[2] or "") if found else ClientApp()


def claude_code_user(user_id: str) -> ClaudeCodeUser:
    """Split Claude Code's user id, in its JSON or its older form."""
    older = _OLDER_USER_ID.fullmatch(user_id)
    if older is not None:
        return ClaudeCodeUser(older[1], older[2], older[3])
    if not user_id.startswith("{"):
        return ClaudeCodeUser()
    try:
        parts = _USER_ID.decode(user_id)
    except UNREADABLE:
        return ClaudeCodeUser()
    return ClaudeCodeUser(parts.device_id or "", parts.account_uuid or "", parts.session_id or "")
