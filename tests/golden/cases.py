"""Reads the written cases: what was used, when and how, and what somebody worked out that it costs."""

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import yaml

from schemas.usage import TokenCounts, UsageRecorded
from tests.unit.rating.cases import usage

COSTS = Path(__file__).parent / "costs"
CONTEXT = (
    "operation",
    "endpoint",
    "outcome",
    "usage_status",
    "http_status",
    "error_type",
    "stop_reason",
    "requested",
)


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One usage and its cost; `usage` is Anthropic's own object, None where there was none."""

    name: str
    model: str
    at: datetime
    usage: dict[str, Any] | None
    status: str
    sum: str
    usd: Decimal
    why: str
    unpriced: tuple[str, ...] = ()
    context: dict[str, Any] = {}


def all_cases() -> dict[str, Case]:
    """Give every case under its file and name."""
    cases: dict[str, Case] = {}
    for path in sorted(COSTS.glob("*.yaml")):
        for case in msgspec.convert(yaml.safe_load(path.read_text()), list[Case]):
            key = f"{path.stem}: {case.name}"
            assert key not in cases, f"{key} stands twice"
            cases[key] = case
    return cases


def fact_of(case: Case) -> UsageRecorded:
    """Make the usage record that the gateway would have published."""
    context = dict(case.context)
    assert set(context) <= set(CONTEXT), context
    requested = context.pop("requested", case.model)
    verbatim = case.usage or {}
    modifiers = {name: verbatim.get(name, "") for name in ("service_tier", "speed", "inference_geo")}
    return usage(
        case.model,
        started_at=case.at,
        model_requested=requested,
        tokens=_counts(verbatim),
        usage=verbatim if case.usage is not None else msgspec.Raw(b"null"),
        **modifiers,
        **context,
    )


def _counts(verbatim: dict[str, Any]) -> TokenCounts:
    """Take the counts of the top level; writes that the split leaves out are written for five minutes."""
    split = verbatim.get("cache_creation") or {}
    one_hour = split.get("ephemeral_1h_input_tokens", 0)
    five_minutes = split.get("ephemeral_5m_input_tokens", 0)
    rest = max(0, verbatim.get("cache_creation_input_tokens", 0) - one_hour - five_minutes)
    tools = verbatim.get("server_tool_use") or {}
    return TokenCounts(
        input_tokens=verbatim.get("input_tokens", 0),
        output_tokens=verbatim.get("output_tokens", 0),
        cache_read_tokens=verbatim.get("cache_read_input_tokens", 0),
        cache_write_5m_tokens=five_minutes + rest,
        cache_write_1h_tokens=one_hour,
        web_search_requests=tools.get("web_search_requests", 0),
        web_fetch_requests=tools.get("web_fetch_requests", 0),
    )
