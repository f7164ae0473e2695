"""Tells which exchange a dead letter is about, as far as its record can still be read; keeps none of it."""

import uuid
from typing import NamedTuple

import msgspec

from schemas import codec, topics
from schemas.dead_letters import DeadLetter

# What ClickHouse itself counts with, signed or not.
COUNT_MAX = 2**63 - 1


class Exchange(NamedTuple):
    """The exchange that a record was about: zeros and "" for what could not be read."""

    request_id: int = 0
    edge_id: str = ""
    exchange_seq: int = 0


class _Fact(msgspec.Struct, frozen=True):
    request_id: str = ""
    edge_id: str = ""
    exchange_seq: int = 0


class _Rated(msgspec.Struct, frozen=True):
    usage: _Fact = _Fact()


def exchange_of(letter: DeadLetter) -> Exchange:
    """Read it from the record, else the request id from its headers: they are often whole where it is not."""
    fact = _fact(letter)
    if fact is None:
        subject = dict(letter.headers).get("ce_subject", b"")
        fact = _Fact(subject.decode(errors="replace"))
    if not (fact.edge_id and 0 < fact.exchange_seq <= COUNT_MAX):
        return Exchange(_uuid(fact.request_id))
    return Exchange(_uuid(fact.request_id), fact.edge_id, fact.exchange_seq)


def _fact(letter: DeadLetter) -> _Fact | None:
    try:
        if letter.topic == topics.RATED:
            return msgspec.json.decode(letter.value or b"", type=_Rated).usage
        return msgspec.json.decode(letter.value or b"", type=_Fact)
    except codec.UNREADABLE:
        return None


def _uuid(text: str) -> int:
    try:
        return uuid.UUID(text).int
    except ValueError:
        return 0
