"""Reads the body of a batch's create call while it comes in, an item at a time; holds one item, and no I/O.

Only what is strictly JSON is read. Of anything else nothing is cut and nothing is said to be asked for: it
passes as it came, and upstream, which is as strict, answers for it.
"""

import codecs
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple, cast

import msgspec

from schemas.codec import UNREADABLE
from services.edge.batches.edits import Edits
from services.edge.batches.item import ItemFault, ItemView, read_item
from services.edge.body import (
    MEMBERS_MAX,
    METADATA_BYTES_MAX,
    METADATA_KEY,
    MODEL_CHARS_MAX,
    Member,
    cuts_of,
    name_of,
)
from services.edge.registry.aliases import NO_ALIASES, Aliases

# Anthropic takes 100,000, and answers for those beyond; each that is read costs some 30 us.
REQUESTS_MAX = 200_000
# Distinct names; what is asked for is known only where there are no more.
MODELS_MAX = 100
# A name that is looked for is shorter, however it is escaped.
KEY_BYTES_MAX = 128

REQUESTS_KEY = b"requests"

# msgspec reads one value and says which byte, counted from 1, does not go with it: the first behind it, or
# one within it. At the very end that may be half a number.
_MALFORMED = re.compile(r"JSON is malformed: (.*) \(byte ([0-9]+)\)")
_BEHIND = "trailing characters"
_TRUNCATED = "Input data was truncated"
_VALUE = msgspec.json.Decoder(msgspec.Raw)
_SPACE = re.compile(rb"[ \t\r\n]*+")
_SPACES = b" \t\r\n"
# Behind one of these a value has come to its end.
_ENDS = frozenset((b"}", b"]", b'"', b" ", b"\t", b"\r", b"\n"))


class CannotTake(Exception):
    """The body may not go up; the text says why, to the client."""


class TwiceNamed(CannotTake):
    """A member stands twice that upstream and the gateway could read differently; the text is its path."""


class TooManyMembers(CannotTake):
    """There are more members, or requests, than are read."""


class ItemTooLarge(CannotTake):
    """One request, or another value, is longer than what is held of a body."""


class CreateView(NamedTuple):
    """What a create call says; `is_read` where all of it was read, or it goes up as it came.

    `models` are the distinct names that go up, up to MODELS_MAX; `are_models_known` where those are all.
    """

    is_read: bool = False
    requests: int = 0
    models: tuple[str, ...] = ()
    are_models_known: bool = False
    litellm_metadata: Mapping[str, object] = MappingProxyType({})
    is_metadata_too_long: bool = False

    def models_asked_for(self) -> tuple[str, ...] | None:
        """Name every model that the batch asks for; None where that is not known, and must not be guessed."""
        return self.models if self.is_read and self.are_models_known else None


class _NotJson(Exception):
    """Nothing more is read."""


class CreateScan:
    """One body; to be fed in order, and ended. `aliases` are names of models, and the models that go up."""

    def __init__(
        self, value_bytes_max: int, aliases: Aliases = NO_ALIASES, *, every_model: bool = False
    ) -> None:
        self._value_bytes_max = value_bytes_max
        self._aliases = aliases
        self._every_model = every_model
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._buffer = bytearray()
        self._base = 0  # where in the body the buffer begins
        self._at = 0  # how far the buffer was read
        self._wanted = 0  # bytes to have before the end of a value is looked for again
        self._step: Callable[[], bool] = self._begin
        self._is_read = True
        self._members: list[Member] = []
        self._key: tuple[bytes, int] = (b"", 0)
        self._metadata = b""
        self._is_metadata_too_long = False
        self._item: ItemView | None = None
        self._requests = 0
        self._models: dict[str, None] = {}
        self._are_models_known = True
        self._item_edits = Edits()

    @property
    def held(self) -> int:
        """Bytes in memory: those that wait for the rest of a value, and what is noted of those before."""
        return len(self._buffer) + self._item_edits.held

    def feed(self, piece: bytes) -> Iterator[ItemView]:
        """Take what has come and give the items that are whole; CannotTake where the body may not go up."""
        if not self._is_read:
            return
        try:
            self._utf8.decode(piece)
            self._buffer += piece
            yield from self._advance()
        except (UnicodeDecodeError, _NotJson):
            self._give_up()

    def end(self) -> Iterator[ItemView]:
        """Say that the body is complete."""
        self._wanted = 0
        yield from self.feed(b"")
        if self._step != self._behind or self._utf8.getstate()[0]:
            self._give_up()

    def view(self) -> CreateView:
        """Say what the whole body asks for."""
        if not self._is_read:
            return CreateView()
        value: object = msgspec.json.decode(self._metadata) if self._metadata else {}
        return CreateView(
            is_read=True,
            requests=self._requests,
            models=tuple(self._models),
            are_models_known=self._are_models_known,
            litellm_metadata=cast("dict[str, object]", value) if isinstance(value, dict) else {},
            is_metadata_too_long=self._is_metadata_too_long,
        )

    def take_edits(self) -> Edits:
        """Hand over what does not go up as it came, and what goes in its place; once, at the end."""
        inner, self._item_edits = self._item_edits, Edits()
        if not self._is_read:
            return Edits()
        outer = cuts_of(METADATA_KEY, self._members)
        edits = Edits(cut for cut in outer if cut[0] < inner.begin)
        edits.add(inner)
        edits.add(cut for cut in outer if cut[0] >= inner.begin)
        return edits

    def _give_up(self) -> None:
        self._is_read = False
        self._buffer.clear()
        self._item_edits = Edits()

    def _advance(self) -> Iterator[ItemView]:
        """Read as far as the bytes go."""
        while self._step():
            if self._item is not None:
                yield self._item
                self._item = None
        del self._buffer[: self._at]
        self._base += self._at
        self._at = 0

    # -- the grammar: a step reads a token or a value and names the next; False where it needs more bytes ----

    def _begin(self) -> bool:
        return self._token({b"{": self._first_key})

    def _first_key(self) -> bool:
        return self._token({b"}": self._behind}) if self._peeked() == b"}" else self._next_key()

    def _next_key(self) -> bool:
        if self._peeked() not in (b"", b'"'):
            raise _NotJson
        start = self._base + self._at
        key = self._value()
        if key is None:
            return False
        self._key = (name_of(key) if len(key) <= KEY_BYTES_MAX else b"", start)
        self._step = self._colon
        return True

    def _colon(self) -> bool:
        return self._token({b":": self._member_value})

    def _member_value(self) -> bool:
        name, _ = self._key
        byte = self._peeked()
        if name == REQUESTS_KEY and any(member.name == REQUESTS_KEY for member in self._members):
            raise TwiceNamed(name.decode())
        if name == REQUESTS_KEY and byte == b"[":
            return self._token({b"[": self._first_item})
        value = self._value()
        if value is None:
            return False
        if name == METADATA_KEY:
            self._is_metadata_too_long = len(value) > METADATA_BYTES_MAX
            self._metadata = b"" if self._is_metadata_too_long else value
        return self._member_ends()

    def _next_member(self) -> bool:
        return self._token({b",": self._next_key, b"}": self._behind})

    def _first_item(self) -> bool:
        return self._behind_item() if self._peeked() == b"]" else self._next_item()

    def _next_item(self) -> bool:
        self._peeked()
        start = self._base + self._at
        item = self._value()
        if item is None:
            return False
        self._item = self._read(item, start)
        self._step = self._behind_item
        return True

    def _behind_item(self) -> bool:
        is_last = self._peeked() == b"]"
        is_stepped = self._token({b",": self._next_item, b"]": self._next_member})
        return self._member_ends() if is_last else is_stepped

    def _behind(self) -> bool:
        if self._peeked():
            raise _NotJson
        return False

    # -- what the steps are made of ------------------------------------------------------------------------

    def _peeked(self) -> bytes:
        """Give the next byte that is not white space; "" where none has come yet."""
        space = _SPACE.match(self._buffer, self._at)
        assert space is not None, "no white space is white space too"
        self._at = space.end()
        return bytes(self._buffer[self._at : self._at + 1])

    def _token(self, steps: Mapping[bytes, Callable[[], bool]]) -> bool:
        byte = self._peeked()
        if not byte:
            return False
        if byte not in steps:
            raise _NotJson
        self._at += 1
        self._step = steps[byte]
        return True

    def _value(self) -> bytes | None:
        """Read one value, or None where its end has not come: looked for again when as much has come anew."""
        rest_bytes = len(self._buffer) - self._at
        if rest_bytes < self._wanted:
            return None
        with memoryview(self._buffer) as buffer, buffer[self._at :] as rest:
            length = _length(rest)
        if length is None and rest_bytes > self._value_bytes_max:
            raise ItemTooLarge
        if length is None:
            self._wanted = min(2 * rest_bytes, self._value_bytes_max + 1)
            return None
        self._wanted = 0
        value = bytes(self._buffer[self._at : self._at + length]).rstrip(_SPACES)
        self._at += len(value)
        return value

    def _read(self, item: bytes, start: int) -> ItemView:
        number = self._requests
        self._requests += 1
        if self._requests > REQUESTS_MAX:
            raise TooManyMembers(f"requests: are more than {REQUESTS_MAX}.")
        try:
            view = read_item(item, self._aliases, every_model=self._every_model)
        except ItemFault as exc:
            if not str(exc):
                raise TooManyMembers(f"requests.{number}: has more than {MEMBERS_MAX} members.") from exc
            raise TwiceNamed(f"requests.{number}.{exc}") from exc
        for model in (view.params.model, *(("",) if view.params.beside is None else view.params.beside)):
            self._note_model(model)
        self._item_edits.add(view.edits, start)
        return view

    def _note_model(self, model: str) -> None:
        has_room = model in self._models or len(self._models) < MODELS_MAX
        if model and has_room and len(model) <= MODEL_CHARS_MAX:
            self._models[model] = None
        else:
            self._are_models_known = False

    def _member_ends(self) -> bool:
        name, start = self._key
        self._members.append(Member(name, start, self._base + self._at))
        if len(self._members) > MEMBERS_MAX:
            raise TooManyMembers(f"The request's body has more than {MEMBERS_MAX} top-level members.")
        self._step = self._next_member
        return True


def _length(text: memoryview) -> int | None:
    """Say how long a value and the white space behind it are; None where it may still go on."""
    try:
        _VALUE.decode(text)
    except msgspec.DecodeError as exc:
        found = _MALFORMED.fullmatch(str(exc))
        if found is not None and found[1] == _BEHIND:
            return int(found[2]) - 1
        if str(exc) == _TRUNCATED or (found is not None and int(found[2]) >= len(text)):
            return None
        raise _NotJson from exc
    except UNREADABLE as exc:
        raise _NotJson from exc
    return len(text) if bytes(text[-1:]) in _ENDS else None  # more digits may come
