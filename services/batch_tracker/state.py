"""Decides what a fact makes of a batch's state; pure, and never lets a status or a position go backwards."""

from datetime import datetime
from typing import NamedTuple

from msgspec.structs import replace

from schemas.attribution import Attribution
from schemas.batches import (
    OWN_KEY,
    BatchCreated,
    BatchDeleted,
    BatchFact,
    BatchItems,
    BatchPhase,
    BatchSeen,
    BatchState,
    ChunkPlace,
)
from schemas.ids import RequestId, VirtualKeyId

UNATTRIBUTED = VirtualKeyId("unattributed")
# As `status`: not Anthropic's word, but what it answered to a deletion.
DELETED = "deleted"
# Words of a later day rank with the first: they are looked at again.
_RANKS = {"in_progress": 0, "canceling": 1, "ended": 2, DELETED: 3}

CLOSED: frozenset[BatchPhase] = frozenset(("booked", "mismatch", "unreadable", "gone", "deleted"))
FOLLOWED: frozenset[BatchPhase] = frozenset(("waiting", "booking", "no_access"))
# Ends that a person may want tried again, by adopting the batch anew.
_REOPENED: frozenset[BatchPhase] = frozenset(("mismatch", "unreadable", "gone"))


class FactPlace(NamedTuple):
    """Where a fact lies on its topic."""

    partition: int
    offset: int


def is_closed(state: BatchState) -> bool:
    """Say whether nothing more happens to a batch."""
    return state.phase in CLOSED


def after(state: BatchState | None, fact: BatchFact, place: FactPlace, credential: str) -> BatchState | None:
    """Give the state after a fact; None where a batch is unknown and the fact does not make it known.

    `credential` names the one that this tracker holds. The same fact again changes nothing.
    """
    what = fact.fact
    if isinstance(what, BatchCreated):
        return _after_created(state, fact, what, credential)
    if isinstance(what, BatchSeen):
        return _after_seen(state, fact, what, credential)
    if state is None or is_closed(state):
        return state
    if isinstance(what, BatchItems):
        return _with_chunk(
            state, ChunkPlace(chunk=what.chunk, partition=place.partition, offset=place.offset)
        )
    assert isinstance(what, BatchDeleted)
    return _after_deleted(state, fact.at)


def seen(state: BatchState, what: BatchSeen) -> BatchState:
    """Lay Anthropic's word over what is known; an older word changes nothing."""
    if is_closed(state) or _rank(what.status) < _rank(state.status):
        return state
    state = replace(
        state,
        status=what.status,
        created_at=what.created_at,
        expires_at=what.expires_at,
        ended_at=what.ended_at or state.ended_at,
        counts=what.counts,
    )
    if state.phase in ("waiting", "no_access"):
        phase: BatchPhase = "booking" if what.status == "ended" else "waiting"
        return replace(state, phase=phase, error="")
    return state


def closed(state: BatchState, phase: BatchPhase, at: datetime, error: str = "") -> BatchState:
    """End a batch."""
    assert phase in CLOSED
    chunks = () if phase == "booked" else state.chunks
    return replace(state, phase=phase, closed_at=at, error=error, chunks=chunks)


def missing(state: BatchState, at: datetime) -> BatchState:
    """End a batch that Anthropic no longer has, or whose results it no longer has."""
    if state.status == DELETED:
        return closed(state, "deleted", at, "deleted before every item was booked")
    return closed(state, "gone", at, "Anthropic no longer has the batch or its results")


def refused(state: BatchState, error: str) -> BatchState:
    """Note that the credential is refused."""
    return replace(state, phase="no_access", error=error)


def readdressed(state: BatchState, credential: str) -> BatchState:
    """Take up, or lay down, a batch by the credential that this tracker holds now."""
    phase = state.phase
    if phase == "other_credential" and state.credential == credential:
        phase = "booking" if state.status == "ended" else "waiting"
    elif phase in FOLLOWED and state.credential != credential:
        phase = "other_credential"
    return replace(state, phase=phase)


def adoption(what: BatchSeen) -> BatchCreated:
    """Take a batch that was seen for one that nobody is known to have made."""
    counts = what.counts
    return BatchCreated(
        created_at=what.created_at,
        expires_at=what.expires_at,
        requests=counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired,
        attribution=Attribution(virtual_key_id=UNATTRIBUTED),
        credential=what.credential,
        request_id=RequestId(""),
    )


def is_late_creator(state: BatchState | None, fact: BatchFact) -> bool:
    """Say whether a batch's creator comes to be known after items were booked to nobody."""
    has_creator = isinstance(fact.fact, BatchCreated) and bool(fact.fact.request_id)
    return state is not None and state.is_adopted and has_creator and bool(state.lines_read)


def _after_created(
    state: BatchState | None, fact: BatchFact, what: BatchCreated, credential: str
) -> BatchState | None:
    is_adoption = not what.request_id
    if state is None:
        return _begun(fact, what, credential)
    if is_adoption and state.phase in _REOPENED:
        return replace(state, phase="waiting", closed_at=None, error="")
    if is_adoption or not state.is_adopted or state.lines_read or is_closed(state):
        return state
    # What was known of it is Anthropic's word still; that it is nobody's is not.
    begun = _begun(fact, what, credential)
    return replace(
        begun,
        version=state.version,
        phase=state.phase,
        status=state.status,
        ended_at=state.ended_at,
        counts=state.counts,
        chunks=state.chunks,
    )


def _after_seen(
    state: BatchState | None, fact: BatchFact, what: BatchSeen, credential: str
) -> BatchState | None:
    if state is not None:
        return seen(state, what)
    if what.credential == OWN_KEY or what.credential != credential:
        return None
    return seen(_begun(fact, adoption(what), credential), what)


def _begun(fact: BatchFact, what: BatchCreated, credential: str) -> BatchState:
    return BatchState(
        batch_id=fact.batch_id,
        version=0,
        at=fact.at,
        phase=_phase_under(what.credential, credential),
        status="in_progress",
        created_at=what.created_at,
        expires_at=what.expires_at,
        requests=what.requests,
        attribution=what.attribution,
        credential=what.credential,
        request_id=what.request_id,
        is_adopted=not what.request_id,
        models=what.models,
        anthropic_version=what.anthropic_version,
        anthropic_beta=what.anthropic_beta,
        item_chunks=what.item_chunks,
    )


def _phase_under(credential: str, held: str) -> BatchPhase:
    if credential == OWN_KEY:
        return "own_key"
    return "waiting" if credential == held else "other_credential"


def _with_chunk(state: BatchState, place: ChunkPlace) -> BatchState:
    if any(each.chunk == place.chunk for each in state.chunks):
        return state
    chunks = sorted((*state.chunks, place), key=lambda each: each.chunk)
    return replace(state, chunks=tuple(chunks))


def _after_deleted(state: BatchState, at: datetime) -> BatchState:
    """Note a deletion; results that are being read may still come to their end."""
    deleted = replace(state, status=DELETED)
    return deleted if state.phase == "booking" else missing(deleted, at)


def _rank(status: str) -> int:
    return _RANKS.get(status, 0)
