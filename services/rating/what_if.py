"""Decides what a usage would look like had another model served it; for questions, never for the books."""

from typing import cast

import msgspec

from schemas.codec import UNREADABLE
from schemas.usage import UsageRecorded

# Entries of usage.iterations that are the message's own work; an advisor stays the model that it is.
_OWN_WORK = ("message", "fallback_message", "compaction")
_JSON = msgspec.json.Decoder(dict[str, object] | None)


def as_if_served_by(model: str, usage: UsageRecorded) -> UsageRecorded:
    """Put another model in the place of the one that answered, with the same tokens."""
    return msgspec.structs.replace(usage, model_served=model, usage=_renamed(model, usage.usage))


def _renamed(model: str, verbatim: msgspec.Raw) -> msgspec.Raw:
    try:
        document = _JSON.decode(verbatim)
    except UNREADABLE:
        return verbatim  # pricing calls it unpriced, whoever served it
    entries = document.get("iterations") if document else None
    if not document or not isinstance(entries, list):
        return verbatim
    renamed = [_entry(model, each) for each in cast("list[object]", entries)]
    return msgspec.Raw(msgspec.json.encode({**document, "iterations": renamed}))


def _entry(model: str, entry: object) -> object:
    if not isinstance(entry, dict):
        return entry
    members = cast("dict[str, object]", entry)
    return {**members, "model": model} if members.get("type") in _OWN_WORK else members
