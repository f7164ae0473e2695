"""Reads one request of a batch's create call: what it asks for, and what of it is changed; holds no I/O."""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from schemas.codec import UNREADABLE
from services.edge.body import MEMBERS_MAX, BodyView, Edit, Member, read_parts, walked
from services.edge.registry.aliases import NO_ALIASES, Aliases

CUSTOM_ID = b"custom_id"
PARAMS = b"params"
# Anthropic takes 64 characters; each may be written as an escape of six bytes.
CUSTOM_ID_BYTES_MAX = 64 * 6 + 2


class ItemFault(Exception):
    """Upstream and the gateway could read the item differently; the text names the member, "" all of them."""


class ItemView(NamedTuple):
    """What one item says, empty where it is none; edits count from its first byte."""

    custom_id: str = ""
    params: BodyView = BodyView()
    edits: Sequence[Edit] = ()


class _Item(msgspec.Struct):
    custom_id: msgspec.Raw = msgspec.Raw(b"")
    params: msgspec.Raw = msgspec.Raw(b"")


_FIELDS = {name.encode(): name for name in _Item.__struct_fields__}
_ITEM = msgspec.json.Decoder(_Item)


def read_item(item: bytes, aliases: Aliases = NO_ALIASES, *, every_model: bool = False) -> ItemView:
    """Read an item, which is valid JSON; what is no object is upstream's to answer for."""
    try:
        read = _ITEM.decode(item)
        members = list(islice(walked(item, read, _FIELDS), MEMBERS_MAX + 1))
        custom_id = _text(read.custom_id)
    except UNREADABLE:
        return ItemView()
    if len(members) > MEMBERS_MAX:
        raise ItemFault("")
    _once(CUSTOM_ID, members)
    params = _once(PARAMS, members)
    if params is None:
        return ItemView(custom_id)
    view, edits = read_parts(bytes(read.params), aliases, every_model=every_model)
    if view.fault:
        raise ItemFault("params.model" if view.fault == "model_twice" else "")
    begin = params.end - len(read.params)
    return ItemView(custom_id, view, [(begin + start, begin + end, text) for start, end, text in edits])


def _once(name: bytes, members: Sequence[Member]) -> Member | None:
    found = [member for member in members if member.name == name]
    if len(found) > 1:
        raise ItemFault(name.decode())
    return found[0] if found else None


def _text(raw: msgspec.Raw) -> str:
    value: object = msgspec.json.decode(raw) if 0 < len(raw) <= CUSTOM_ID_BYTES_MAX else ""
    return value if isinstance(value, str) else ""
