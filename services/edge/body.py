"""Reads what the meter needs out of a request body; cuts `litellm_metadata`, and puts a model for its alias.

With neither the body stays the very bytes that came; with one, every byte around it does.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Literal, NamedTuple, cast

import msgspec

from schemas.codec import UNREADABLE
from schemas.usage_rules import CacheTtls
from services.edge.models_beside import models_beside
from services.edge.registry.aliases import NO_ALIASES, Aliases

METADATA_KEY = b"litellm_metadata"
MODEL_KEY = b"model"
# Anthropic's requests have some 40; each one that is walked costs a microsecond.
MEMBERS_MAX = 1000
# Of `metadata` and `litellm_metadata` each: what is kept of them is below 20 KB of text.
METADATA_BYTES_MAX = 64 * 1024
# A model's name, escapes included; a longer one is none.
MODEL_BYTES_MAX = 4096
# The same in characters, where it is kept or repeated: it is the client's word until upstream confirms it.
MODEL_CHARS_MAX = 128
# Anthropic takes 4 marks; beyond these no more are looked at.
CACHE_MARKS_MAX = 64

Fault = Literal["", "model_twice", "too_many_members"]


class BodyView(NamedTuple):
    """What one request body says to the meter; empty where it is not a JSON object.

    `model` is the one that goes up: in place of an alias that was asked for, what it stands for. Those that
    are named `beside` it are known only where they were asked for, and None where they cannot be read.
    With a fault it may not go up: upstream and the meter could read it differently.
    """

    model: str = ""
    is_stream: bool = False
    user_id: str = ""
    litellm_metadata: Mapping[str, object] = MappingProxyType({})
    is_metadata_too_long: bool = False
    cache_ttls: CacheTtls = "none"
    fault: Fault = ""
    beside: tuple[str, ...] | None = ()


_ABSENT = msgspec.Raw(b"")


class _Members(msgspec.Struct):
    """The members that can be long, and those that are read; the walk steps over all of them at once."""

    model: msgspec.Raw = _ABSENT
    stream: msgspec.Raw = _ABSENT
    metadata: msgspec.Raw = _ABSENT
    litellm_metadata: msgspec.Raw = _ABSENT
    messages: msgspec.Raw = _ABSENT
    system: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT
    requests: msgspec.Raw = _ABSENT
    mcp_servers: msgspec.Raw = _ABSENT
    context_management: msgspec.Raw = _ABSENT
    output_config: msgspec.Raw = _ABSENT
    output_format: msgspec.Raw = _ABSENT


class _Metadata(msgspec.Struct):
    user_id: object = None


class _CacheControl(msgspec.Struct):
    ttl: str | None = None


class Member(NamedTuple):
    """A member of an object: from its key's opening quote to behind its value, white space not included."""

    name: bytes
    start: int
    end: int


Edit = tuple[int, int, bytes]
"""What does not go up, from where to where, and what goes in its place: plain, as there are many of them."""

_FIELDS = {name.encode(): name for name in _Members.__struct_fields__}
_MEMBERS = msgspec.json.Decoder(_Members)
_METADATA = msgspec.json.Decoder(_Metadata)
_CACHE_CONTROL = msgspec.json.Decoder(_CacheControl)

# How the name stands in JSON, and how an escape of any of its letters begins: "m" is \u006d.
_MODEL_PLAIN = b'"model"'
_MODEL_ESCAPED = b"\\u006"
_FALLBACKS_PLAIN = b'"fallbacks"'
_ESCAPED = b"\\u00"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# A key, with the comma before it unless it is the first, up to its value.
_KEY = re.compile(rb"[ \t\r\n]*+,?[ \t\r\n]*+(" + _STRING + rb")[ \t\r\n]*+:[ \t\r\n]*+", re.DOTALL)
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]++")
_TOKEN = re.compile(_STRING + rb"|[{}\[\]]", re.DOTALL)
_BEHIND = frozenset(b" \t\r\n,}")
# In a string the quotes of a key would be escaped, so this finds keys only.
_CACHE_MARK = b'"cache_control"'
_MARKED = re.compile(rb"[ \t\r\n]*+:[ \t\r\n]*+(\{[^{}]*+\})")


def read_body(
    body: bytes, aliases: Aliases = NO_ALIASES, *, every_model: bool = False
) -> tuple[BodyView, bytes]:
    """Give what the body says, and the body that goes upstream: the very same object where nothing changes.

    What is not a JSON object passes as it came: upstream answers for it in its own words.
    """
    view, edits = read_parts(body, aliases, every_model=every_model)
    return view, _edited(edits, body) if edits else body


def read_parts(
    body: bytes, aliases: Aliases = NO_ALIASES, *, every_model: bool = False
) -> tuple[BodyView, list[Edit]]:
    """Give what the body says, and what of it does not go up as it came; in order, none over another.

    With `every_model` also which models it names beside its own.
    """
    try:
        read = _MEMBERS.decode(body)
        asked = _text(read.model, MODEL_BYTES_MAX)
        model = aliases.get(asked, asked) if aliases else asked
        is_walked = model != asked or _needs_walk(body, read) or (every_model and _may_name_others(body))
        members = list(islice(walked(body, read, _FIELDS), MEMBERS_MAX + 1)) if is_walked else []
        view = _view(read, model, members, body)
        if every_model and members:
            view = view._replace(beside=models_beside(_values(members, body)))
    except UNREADABLE:
        return BodyView(), []
    if view.fault or not is_walked:
        return view, []
    edits = cuts_of(METADATA_KEY, members)
    if model != asked:
        edits.append(_renaming(read, model, members))
        edits.sort()
    return view, edits


def _needs_walk(body: bytes, read: _Members) -> bool:
    """Say whether there is a member to cut, or might be a second `model`; most bodies have neither."""
    return len(read.litellm_metadata) > 0 or body.count(_MODEL_PLAIN) > 1 or _MODEL_ESCAPED in body


def _may_name_others(body: bytes) -> bool:
    """Say whether a model may be named that is not called `model`, or in a spelling of its own."""
    return _FALLBACKS_PLAIN in body or _ESCAPED in body


def _view(read: _Members, model: str, members: list[Member], body: bytes) -> BodyView:
    fault: Fault = ""
    if len(members) > MEMBERS_MAX:
        fault = "too_many_members"
    elif [member.name for member in members].count(MODEL_KEY) > 1:
        fault = "model_twice"
    is_too_long = len(read.litellm_metadata) > METADATA_BYTES_MAX
    return BodyView(
        model=model,
        is_stream=bytes(read.stream) == b"true",
        user_id=_user_id(read.metadata),
        litellm_metadata={} if is_too_long else _object(read.litellm_metadata),
        is_metadata_too_long=is_too_long,
        cache_ttls=_cache_ttls(body),
        fault=fault,
    )


def walked(body: bytes, read: msgspec.Struct, fields: Mapping[bytes, str]) -> Iterator[Member]:
    """Walk the top level of a valid JSON object; values that were read are stepped over by their length.

    `fields` are the names of the members that are msgspec.Raw in `read`.
    """
    key = _KEY.match(body, body.index(b"{") + 1)
    while key is not None:
        name = name_of(key[1])
        field = fields.get(name)
        end = _value_end(body, key.end(), bytes(getattr(read, field)) if field else b"")
        yield Member(name, key.start(1), end)
        key = _KEY.match(body, end)


def _value_end(body: bytes, at: int, value: bytes) -> int:
    """Find the end of the value that begins at `at`; `value` is its text, unless the name stands twice.

    No JSON value is the beginning of another but a number, and what is behind a value tells them apart.
    """
    if value and body.startswith(value, at) and body[at + len(value)] in _BEHIND:
        return at + len(value)
    scalar = _SCALAR.match(body, at)
    if scalar is not None:
        return scalar.end()
    depth = 0
    for token in _TOKEN.finditer(body, at):
        first = body[token.start()]
        depth += (first in b"{[") - (first in b"}]")
        if depth == 0:
            return token.end()
    raise AssertionError("msgspec has taken every value for a whole one")


def cuts_of(name: bytes, members: Sequence[Member]) -> list[Edit]:
    """Say what to cut so that every member called `name` goes out of the object, with one comma each."""
    goes = [member.name == name for member in members]
    last_kept = max((index for index, gone in enumerate(goes) if not gone), default=-1)
    # Before the last member that stays, a cut takes the comma behind it; after it, the comma before it.
    cuts = [(members[i].start, members[i + 1].start, b"") for i in range(last_kept) if goes[i]]
    if last_kept + 1 < len(members):
        begin = members[last_kept].end if last_kept >= 0 else members[0].start
        cuts.append((begin, members[-1].end, b""))
    return cuts


def _values(members: Iterable[Member], body: bytes) -> Iterator[tuple[bytes, bytes]]:
    for member in members:
        key = _KEY.match(body, member.start)
        assert key is not None, "a member begins with its key"
        yield member.name, body[key.end() : member.end]


def _renaming(read: _Members, model: str, members: Sequence[Member]) -> Edit:
    """Put another model's name in the place of the one value that `model` has."""
    end = next(member.end for member in members if member.name == MODEL_KEY)
    return end - len(read.model), end, msgspec.json.encode(model)


def _edited(edits: Sequence[Edit], body: bytes) -> bytes:
    pieces: list[bytes] = []
    kept_to = 0
    for begin, end, text in edits:
        pieces += (body[kept_to:begin], text)
        kept_to = end
    return b"".join((*pieces, body[kept_to:]))


def name_of(key: bytes) -> bytes:
    """Decode a key as far as it is escaped; one that cannot be decoded is none that is looked for."""
    if b"\\" not in key:
        return key[1:-1]
    try:
        return msgspec.json.decode(key, type=str).encode()
    except (*UNREADABLE, UnicodeEncodeError):
        return b""


def _cache_ttls(body: bytes) -> CacheTtls:
    """Say which lifetimes the request's cache marks ask for, wherever they stand."""
    seen: set[str] = set()
    at = body.find(_CACHE_MARK)
    for _ in range(CACHE_MARKS_MAX):
        if at < 0 or len(seen) == 2:
            break
        marked = _MARKED.match(body, at + len(_CACHE_MARK))
        if marked is not None:
            seen |= {_ttl(marked[1])} & {"5m", "1h"}
        at = body.find(_CACHE_MARK, at + len(_CACHE_MARK))
    if len(seen) == 2:
        return "both"
    return cast("CacheTtls", seen.pop()) if seen else "none"


def _ttl(mark: bytes) -> str:
    try:
        return _CACHE_CONTROL.decode(mark).ttl or "5m"
    except UNREADABLE:
        return ""


def _text(raw: msgspec.Raw, bytes_max: int) -> str:
    value: object = msgspec.json.decode(raw) if 0 < len(raw) <= bytes_max else ""
    return value if isinstance(value, str) else ""


def _user_id(raw: msgspec.Raw) -> str:
    if not 0 < len(raw) <= METADATA_BYTES_MAX or bytes(raw)[:1] != b"{":
        return ""
    user_id = _METADATA.decode(raw).user_id
    return user_id if isinstance(user_id, str) else ""


def _object(raw: msgspec.Raw) -> Mapping[str, object]:
    value: object = msgspec.json.decode(raw) if len(raw) else {}
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}
