"""Decides whether a caller who is known may do what it asks for; pure, and in doubt it says no."""

from collections.abc import Sequence
from typing import NamedTuple

from schemas.keys import EndUser
from services.edge.refusals import END_USER_BLOCKED, MODEL_DENIED, ROUTE_DENIED, Refusal
from services.edge.registry.rights import (
    MODELLESS_OPERATIONS,
    Grant,
    may_call,
    model_fault,
    restricts_models,
)
from services.edge.targets import Target

BATCHES = "/v1/messages/batches"


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
        return ROUTE_DENIED
    if not restricts_models(grant) or not _asks_for_a_model(asked):
        return None
    if asked.models is None or model_fault(grant, asked.models) is not None:
        return MODEL_DENIED
    return None


def _asks_for_a_model(asked: Asked) -> bool:
    """Say whether a model would be used: of batches only by the call that makes one."""
    operation, endpoint = asked.target.operation, asked.target.endpoint
    if asked.method not in ("POST", "PUT", "PATCH") or operation in MODELLESS_OPERATIONS:
        return False
    return operation != "batches" or endpoint == BATCHES
