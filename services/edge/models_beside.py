"""Finds the models that a body names beside its own: an advisor's, a fallback's, or one that is yet to come.

A key that may not use every model may not reach another through these either. What is named twice counts
twice, as nobody knows which of the two upstream reads; what cannot be read is not known.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, cast

MODEL = "model"
# Members of a request in which `model` is somebody's text, or Anthropic's own word of an earlier answer.
_TEXTS = frozenset((b"model", b"messages", b"system", b"metadata", b"litellm_metadata"))
# Members at any depth whose own members are called as the client likes.
_FREE = frozenset(("input_schema", "input_examples", "schema", "properties"))
# `"fallbacks": "default"` leaves the choice to Anthropic.
_FALLBACKS = b"fallbacks"
_MARKS = (b'"model"', b"\\u")


class _Unknown(Exception):
    """A model is named that cannot be read."""


class _Object(list[tuple[str, Any]]):
    """The members of an object, also those that stand twice."""


def models_beside(members: Iterable[tuple[bytes, bytes]]) -> tuple[str, ...] | None:
    """Give the models named in these members, by name and JSON text; None where one cannot be known."""
    found: dict[str, None] = {}
    try:
        for name, value in members:
            if name in _TEXTS:
                continue
            if name == _FALLBACKS:
                found |= dict.fromkeys(_fallbacks(json.loads(value, object_pairs_hook=_Object)))
            elif any(mark in value for mark in _MARKS):
                found |= dict.fromkeys(_named(json.loads(value, object_pairs_hook=_Object)))
    except (_Unknown, ValueError, RecursionError):
        return None
    return tuple(found)


def _fallbacks(value: object) -> Iterator[str]:
    if value is None:
        return
    if isinstance(value, _Object) or not isinstance(value, list):
        raise _Unknown
    for each in cast("list[object]", value):
        if not isinstance(each, _Object):
            raise _Unknown
        yield from _named(each)


def _named(value: object) -> Iterator[str]:
    if isinstance(value, _Object):
        for name, member in value:
            if name == MODEL:
                yield from _model(member)
            elif name not in _FREE:
                yield from _named(member)
    elif isinstance(value, list):
        for each in cast("list[object]", value):
            yield from _named(each)


def _model(value: object) -> Iterator[str]:
    if isinstance(value, str) and value:
        yield value
    elif value is not None:
        raise _Unknown
