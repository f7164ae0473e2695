"""Decides to whom a request is booked: key, tags, end user, session, free metadata; all of it bounded."""

from collections.abc import Container, Iterable, Mapping
from typing import cast

import msgspec

from schemas.attribution import Attribution
from schemas.ids import VirtualKeyId
from services.edge.body import BodyView
from services.edge.client_identity import claude_code_user, client_app
from services.edge.headers import RawHeaders, first, joined
from services.runtime import metrics

# Together below 200 KB of JSON at worst, so that no caller can make an event that Kafka refuses.
TAGS_MAX = 32
METADATA_KEYS_MAX = 32
TEXT_CHARS_MAX = 256

# What went into a column of its own is not repeated in `metadata`.
_NAMED = ("user", "session_id", "trace_id")
SPEND_LOGS = "spend_logs_metadata"
# LiteLLM's own columns of a key: who a key belongs to is not the caller's to say.
RESERVED_PREFIX = "user_api_key_"


def attribute(virtual_key_id: VirtualKeyId, headers: RawHeaders, view: BodyView) -> Attribution:
    """Gather the attribution of one request; headers go before the body, as LiteLLM's clients expect."""
    given = view.litellm_metadata
    if view.is_metadata_too_long:
        metrics.edge_metadata_cut.labels("metadata").inc()
    code = claude_code_user(view.user_id)
    end_user = (
        first(headers, b"x-litellm-customer-id", b"x-litellm-end-user-id")
        or _text(given.get("user"))
        or code.account_id
        or code.device_id
        or view.user_id
    )
    session = (
        first(headers, b"x-claude-code-session-id", b"x-litellm-session-id", b"x-litellm-trace-id")
        or _text(given.get("session_id"))
        or _text(given.get("trace_id"))
        or code.session_id
    )
    taken = {name for name in _NAMED if _text(given.get(name)) in (end_user, session)}
    app = client_app(headers)
    return Attribution(
        virtual_key_id=virtual_key_id,
        end_user_id=_bounded(end_user, "end_user"),
        session_id=_bounded(session, "session"),
        tags=_tags(joined(headers, b"x-litellm-tags").split(","), given.get("tags")),
        metadata=_metadata(_free(given, {"tags", *taken})),
        client_app=_bounded(app.name, "client"),
        client_version=_bounded(app.version, "client"),
        agent_id=_bounded(first(headers, b"x-claude-code-agent-id"), "agent"),
        parent_agent_id=_bounded(first(headers, b"x-claude-code-parent-agent-id"), "agent"),
        device_id=_bounded(code.device_id, "device"),
        account_id=_bounded(code.account_id, "account"),
    )


def without_end_user(attribution: Attribution) -> Attribution:
    """Leave out who used the client, by every name that it went by: the user, the account, the device."""
    metadata = {name: text for name, text in attribution.metadata.items() if name != "user"}
    return msgspec.structs.replace(
        attribution, end_user_id="", device_id="", account_id="", metadata=metadata
    )


def _free(given: Mapping[str, object], taken: Container[str]) -> Mapping[str, object]:
    """Name the members that have no column of their own, those meant for LiteLLM's spend log among them."""
    logged = given.get(SPEND_LOGS)
    outer = {name: each for name, each in given.items() if name not in taken}
    if not isinstance(logged, dict):
        return outer
    del outer[SPEND_LOGS]
    return {**cast("dict[str, object]", logged), **outer}


def _tags(from_header: Iterable[str], from_body: object) -> tuple[str, ...]:
    listed: list[object] = list(from_body) if isinstance(from_body, list) else []  # pyright: ignore[reportUnknownArgumentType] - JSON
    texts = [text.strip() for text in (*from_header, *(_text(each) for each in listed))]
    distinct = tuple(dict.fromkeys(text for text in texts if text))
    if len(distinct) > TAGS_MAX:
        metrics.edge_metadata_cut.labels("tags").inc(len(distinct) - TAGS_MAX)
    return tuple(_bounded(text, "tag") for text in distinct[:TAGS_MAX])


def _metadata(given: Mapping[str, object]) -> dict[str, str]:
    """Keep the scalar members; lists and objects have no place in a Map of strings."""
    allowed = {key: value for key, value in given.items() if not key.startswith(RESERVED_PREFIX)}
    scalars = {key: text for key, value in allowed.items() if (text := _text(value))}
    said = sum(value not in (None, "") for value in given.values())
    kept = list(scalars.items())[:METADATA_KEYS_MAX]
    if said > len(kept):
        metrics.edge_metadata_cut.labels("metadata").inc(said - len(kept))
    return {_bounded(key, "metadata"): _bounded(text, "metadata") for key, text in kept}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else ""


def _bounded(text: str, what: str) -> str:
    if len(text) <= TEXT_CHARS_MAX:
        return text
    metrics.edge_metadata_cut.labels(what).inc()
    return text[:TEXT_CHARS_MAX]
