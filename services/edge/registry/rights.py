"""Decides what a key may do: whether it is in force, for which models, and for which routes; pure."""

import posixpath
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple
from urllib.parse import unquote

from schemas.exchange import Operation
from schemas.keys import Team, VirtualKey
from services.edge.registry.secrets import digest_of
from services.edge.registry.table import Registry

# What every key may do unless its allowed_routes say otherwise. Files, skills and whatever else there is
# belong to all keys of one Anthropic organisation, so they need a grant.
DEFAULT_OPERATIONS: frozenset[Operation] = frozenset(("messages", "count_tokens", "models", "batches"))
# LiteLLM's names for the routes above.
ROUTE_GROUPS = ("llm_api_routes", "anthropic_routes")
# Anthropic's admin API: no pattern but one that begins with this very path opens it.
ORGANIZATIONS = "/v1/organizations"
# LiteLLM's words in a list of models: every model, and whatever the team may.
EVERY_MODEL = frozenset(("*", "all-proxy-models", "all-team-models"))
# Where a model is asked for by a member that need not be there.
MODELLESS_OPERATIONS: frozenset[Operation] = frozenset(("models", "files", "skills"))
# How LiteLLM spells Anthropic's models; it is not sent up.
PROVIDER = "anthropic/"
_PREFIX = "/anthropic"
_DOTS = re.compile(r"(?:^|/)\.{1,2}(?:/|$)")

KeyFault = Literal["unknown_credential", "keys_unread", "key_expired", "key_blocked", "team_blocked"]


class Grant(NamedTuple):
    """A key in force, and its team where it has one."""

    key: VirtualKey
    team: Team | None = None


def grant_of(secret: str, registry: Registry, now: datetime) -> Grant | KeyFault:
    """Find the key that a caller shows, or say why it does not count; what is not known is refused."""
    if not registry.is_read:
        return "keys_unread"
    digest = digest_of(secret)
    key = registry.table.key_of_digest(digest)
    if key is None:
        return "unknown_credential"
    ends = [key.expires_at, *(each.expires_at for each in key.hashes if each.sha256 == digest)]
    if any(end is not None and end <= now for end in ends):
        return "key_expired"
    if key.blocked:
        return "key_blocked"
    if not key.team_id:
        return Grant(key)
    team = registry.table.team(key.team_id)
    if team is None or team.blocked:
        return "team_blocked"
    return Grant(key, team)


def restricts_models(grant: Grant) -> bool:
    """Say whether there is any model that the key may not use."""
    return any(not EVERY_MODEL.intersection(allowed) for _, allowed in _model_lists(grant))


class ModelFault(NamedTuple):
    """The first of the models asked for that the key may not use, and the list that does not have it."""

    model: str
    is_of_team: bool
    allowed: Sequence[str]


def model_fault(grant: Grant, models: Iterable[str]) -> ModelFault | None:
    """Say which model the key may not use; None where it may use all of them.

    Both lists count, the key's and its team's. A model that could not be read is "", which no list allows.
    """
    lists = _model_lists(grant)
    for model in models:
        for is_of_team, allowed in lists:
            if not _is_listed(model, allowed):
                return ModelFault(model, is_of_team, allowed)
    return None


def _model_lists(grant: Grant) -> list[tuple[bool, Sequence[str]]]:
    lists = [(False, grant.key.models), (True, grant.team.models if grant.team else ())]
    return [each for each in lists if each[1]]


def _is_listed(model: str, listed: Sequence[str]) -> bool:
    if EVERY_MODEL.intersection(listed):
        return True
    return model != "" and any(matches(each.removeprefix(PROVIDER), model) for each in listed)


def may_call(grant: Grant, operation: Operation, raw_path: bytes) -> bool:
    """Say whether the key may use this route.

    The path is read as the most lenient server would read it; one that could be read in two ways is refused.
    """
    path = unquote(raw_path.decode("latin-1")).replace("\\", "/")
    if _DOTS.search(path):
        return False
    route = "/" + posixpath.normpath(path).lstrip("/").removeprefix(_PREFIX[1:] + "/").lstrip("/")
    allowed = grant.key.allowed_routes
    patterns = [each.removeprefix(_PREFIX) for each in allowed if each not in ROUTE_GROUPS]
    if route.lower().startswith(ORGANIZATIONS):
        return any(each.startswith(ORGANIZATIONS) and matches(each, route) for each in patterns)
    if operation in DEFAULT_OPERATIONS and (not allowed or len(patterns) < len(allowed)):
        return True
    return any(matches(each, route) for each in patterns)


def matches(pattern: str, text: str) -> bool:
    """Compare with a pattern in which `*` stands for anything, in time that grows with the text alone."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    *middle, last = rest
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
