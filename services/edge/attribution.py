"""Decides to whom a request is booked: key, tags, end user, session, free metadata; all of it bounded."""

from collections.abc import Iterable, Mapping

from schemas.attribution import Attribution
from schemas.ids import VirtualKeyId
from services.edge.body import BodyView
from services.edge.headers import RawHeaders, first
from services.runtime import metrics

# Together below 200 KB of JSON at worst, so that no caller can make an event that Kafka refuses.
TAGS_MAX = 32
METADATA_KEYS_MAX = 32
TEXT_CHARS_MAX = 256

# What went into a column of its own is not repeated in `metadata`.
_NAMED = ("user", "session_id", "trace_id")


def attribute(virtual_key_id: VirtualKeyId, headers: RawHeaders, view: BodyView) -> Attribution:
    """Gather the attribution of one request; headers go before the body, as LiteLLM's clients expect."""
    given = view.litellm_metadata
    end_user = (
        first(headers, b"x-litellm-customer-id", b"x-litellm-end-user-id")
        or _text(given.get("user"))
        or view.user_id
    )
    session = (
        first(headers, b"x-claude-code-session-id", b"x-litellm-session-id", b"x-litellm-trace-id")
        or _text(given.get("session_id"))
        or _text(given.get("trace_id"))
    )
    taken = {name for name in _NAMED if _text(given.get(name)) in (end_user, session)}
    return Attribution(
        virtual_key_id=virtual_key_id,
        end_user_id=_bounded(end_user, "end_user"),
        session_id=_bounded(session, "session"),
        tags=_tags(first(headers, b"x-litellm-tags").split(","), given.get("tags")),
        metadata=_metadata({name: each for name, each in given.items() if name not in {"tags", *taken}}),
    )


def _tags(from_header: Iterable[str], from_body: object) -> tuple[str, ...]:
    listed: list[object] = list(from_body) if isinstance(from_body, list) else []  # pyright: ignore[reportUnknownArgumentType] - JSON
    texts = [text.strip() for text in (*from_header, *(_text(each) for each in listed))]
    distinct = tuple(dict.fromkeys(text for text in texts if text))
    if len(distinct) > TAGS_MAX:
        metrics.edge_metadata_cut.labels("tags").inc()
    return tuple(_bounded(text, "tag") for text in distinct[:TAGS_MAX])


def _metadata(given: Mapping[str, object]) -> dict[str, str]:
    """Keep the scalar members; lists and objects have no place in a Map of strings."""
    texts = {key: _text(value) for key, value in given.items()}
    scalars = {key: text for key, text in texts.items() if text}
    if len(scalars) < len(texts) or len(scalars) > METADATA_KEYS_MAX:
        metrics.edge_metadata_cut.labels("metadata").inc()
    kept = list(scalars.items())[:METADATA_KEYS_MAX]
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
