"""Decides whether a caller who is known may do what it asks for; pure, and in doubt it says no."""

from collections.abc import Sequence
from typing import NamedTuple

from schemas.keys import EndUser
from services.edge.body import MODEL_CHARS_MAX
from services.edge.refusals import (
    END_USER_BLOCKED,
    MODEL_UNREADABLE,
    Refusal,
    model_denied,
    route_denied,
)
from services.edge.registry.rights import (
    MODELLESS_OPERATIONS,
    Grant,
    may_call,
    model_fault,
    restricts_models,
)
from services.edge.targets import BATCHES, Target


class Asked(NamedTuple):
    """What a request asks for; `models` is None where that could not be read."""

    method: str
    raw_path: bytes
    target: Target
    models: Sequence[str] | None


def denial(grant: Grant | None, end_user: EndUser | None, asked: Asked) -> Refusal | None:
    """Say why the request may not go up, if it may not; without a grant only the end user is looked at."""
    if end_user is not None and end_user.blocked:
        return END_USER_BLOCKED
    if grant is None:
        return None
    if not may_call(grant, asked.target.operation, asked.raw_path):
        return route_denied(grant.key.allowed_routes)
    if not restricts_models(grant) or not _asks_for_a_model(asked):
        return None
    fault = None if asked.models is None else model_fault(grant, asked.models)
    if asked.models is None or (fault is not None and not fault.model):
        return MODEL_UNREADABLE
    if fault is None:
        return None
    whose = "The team of this API key" if fault.is_of_team else "This API key"
    return model_denied(whose, fault.model[:MODEL_CHARS_MAX], fault.allowed)


def _asks_for_a_model(asked: Asked) -> bool:
    """Say whether a model would be used: of batches only by the call that makes one."""
    operation, endpoint = asked.target.operation, asked.target.endpoint
    if asked.method not in ("POST", "PUT", "PATCH") or operation in MODELLESS_OPERATIONS:
        return False
    return operation != "batches" or endpoint == BATCHES
