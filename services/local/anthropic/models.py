"""Lists the models that the simulated API knows, as GET /v1/models shows them; never says what they cost."""

from typing import Literal

import msgspec

from services.local.anthropic.errors import ApiFault
from services.local.anthropic.paging import Page, Query, page_of

Lifecycle = Literal["active", "deprecated", "retired"]
Line = Literal["haiku", "sonnet", "opus", "fable", "mythos"]

INPUT_TOKENS_MAX = 1_000_000
OUTPUT_TOKENS_MAX = 128_000  # Claude Code asks for this many from every current model
OUTPUT_TOKENS_MAX_BEFORE_4_6 = 64_000


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model as the models endpoint shows it."""

    type: Literal["model"] = "model"
    id: str
    display_name: str
    created_at: str
    lifecycle: Lifecycle = "active"
    deprecated_at: str | None = None
    retires_at: str | None = None
    line: Line
    max_input_tokens: int = INPUT_TOKENS_MAX
    max_tokens: int = OUTPUT_TOKENS_MAX


def find_model(name: str) -> Model:
    """Resolve an id or an alias to a model that answers; raises the real API's 404 for any other name."""
    model = describe_model(name)
    if model.lifecycle == "retired":
        raise ApiFault(404, f"model: {name}")
    return model


def describe_model(name: str) -> Model:
    """Resolve an id or an alias, retired models included."""
    model = _BY_NAME.get(name)
    if model is None:
        raise ApiFault(404, f"model: {name}")
    return model


def list_models(query: Query) -> Page[Model]:
    """Answer one page for the query parameters limit, after_id, before_id and lifecycle[]."""
    shown = set(query.get("lifecycle[]", ())) or {"active", "deprecated"}
    models = {model.id: model for model in CATALOGUE if model.lifecycle in shown}
    ids, has_more = page_of(list(models), query, "model")
    return Page(
        data=tuple(models[model_id] for model_id in ids),
        has_more=has_more,
        first_id=ids[0] if ids else None,
        last_id=ids[-1] if ids else None,
    )


def _current(model_id: str, day: str, line: Line) -> Model:
    _, name, *version = model_id.split("-")
    display_name = f"Claude {name.title()} {'.'.join(version)}"
    return Model(id=model_id, display_name=display_name, created_at=f"{day}T00:00:00Z", line=line)


# Days of release as announced; where only the month is known its first day stands.
CATALOGUE: tuple[Model, ...] = (
    _current("claude-fable-5-2", "2026-11-09", "fable"),
    _current("claude-mythos-5-2", "2026-11-09", "mythos"),
    _current("claude-haiku-5-5", "2026-10-07", "haiku"),
    _current("claude-sonnet-5-5", "2026-09-28", "sonnet"),
    _current("claude-opus-5-5", "2026-09-22", "opus"),
    _current("claude-fable-5-1", "2026-09-01", "fable"),
    _current("claude-mythos-5-1", "2026-09-01", "mythos"),
    _current("claude-opus-5", "2026-07-24", "opus"),
    _current("claude-sonnet-5", "2026-06-30", "sonnet"),
    _current("claude-fable-5", "2026-06-01", "fable"),
    _current("claude-mythos-5", "2026-06-01", "mythos"),
    _current("claude-opus-4-8", "2026-05-01", "opus"),
    _current("claude-opus-4-7", "2026-04-01", "opus"),
    _current("claude-sonnet-4-6", "2026-02-17", "sonnet"),
    _current("claude-opus-4-6", "2026-02-05", "opus"),
    Model(
        id="claude-opus-4-5-20251101",
        display_name="Claude Opus 4.5",
        created_at="2025-11-01T00:00:00Z",
        line="opus",
        max_input_tokens=200_000,
        max_tokens=OUTPUT_TOKENS_MAX_BEFORE_4_6,
    ),
    Model(
        id="claude-haiku-4-5-20251001",
        display_name="Claude Haiku 4.5",
        created_at="2025-10-01T00:00:00Z",
        line="haiku",
        max_input_tokens=200_000,
        max_tokens=OUTPUT_TOKENS_MAX_BEFORE_4_6,
    ),
    Model(
        id="claude-sonnet-4-5-20250929",
        display_name="Claude Sonnet 4.5",
        created_at="2025-09-29T00:00:00Z",
        lifecycle="deprecated",
        deprecated_at="2026-09-29T00:00:00Z",
        retires_at="2026-11-30T00:00:00Z",
        line="sonnet",
        max_tokens=OUTPUT_TOKENS_MAX_BEFORE_4_6,
    ),
    Model(
        id="claude-opus-4-1-20250805",
        display_name="Claude Opus 4.1",
        created_at="2025-08-05T00:00:00Z",
        lifecycle="retired",
        deprecated_at="2026-02-05T00:00:00Z",
        retires_at="2026-08-05T00:00:00Z",
        line="opus",
        max_input_tokens=200_000,
        max_tokens=32_000,
    ),
)

# Models before 4.6 carry a date in their id and answer to an alias without it.
_ALIASES = {model.id[:-9]: model for model in CATALOGUE if model.id[-8:].isdigit()}

_BY_NAME = _ALIASES | {model.id: model for model in CATALOGUE}
