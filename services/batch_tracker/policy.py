"""Decides when a batch is looked at next; pure, and never sooner than Anthropic asked for."""

from datetime import datetime, timedelta

from schemas.batches import BatchState
from services.batch_tracker.config import BatchTrackerConfig

# A new look each time that a batch has aged by this part: some 45 looks in 24 hours, most of them early.
AGE_PART = 10
# A refused credential is mended by a person.
NO_ACCESS_S = 3600.0
# How far a wait may fall short of, or exceed, what was decided, so that many batches part.
JITTER_PART = 0.2
# Anthropic may not know a batch for a moment; after so many looks in a row it is gone.
NOT_THERE_LOOKS_MAX = 3
# Chunks of items that were announced and did not come; facts of one batch lie behind one another.
CHUNKS_WAIT = timedelta(hours=1)
# Results that do not agree with Anthropic's counts are read so often before that is said to be the end.
READINGS_MAX = 3


def wait_s(state: BatchState, now: datetime, failures: int, config: BatchTrackerConfig) -> float:
    """Give the seconds until the next look at a batch that is waiting, after `failures` looks in a row."""
    if state.phase == "no_access":
        return max(NO_ACCESS_S, config.poll_s_max)
    if failures:
        return min(config.poll_s_min * 2.0**failures, config.poll_s_max)
    age_s = (now - state.created_at).total_seconds()
    return min(max(age_s / AGE_PART, config.poll_s_min), config.poll_s_max)


def jittered(seconds: float, random: float) -> float:
    """Vary a wait; `random` lies between 0 and 1."""
    return seconds * (1 + JITTER_PART * (2 * random - 1))


def booking_wait_s(state: BatchState, now: datetime, config: BatchTrackerConfig) -> float:
    """Give the seconds for which an ended batch waits: its creator, or items of it, may still be to come."""
    if state.is_adopted:
        due = state.created_at + timedelta(seconds=config.adopt_grace_s)
    elif len(state.chunks) < state.item_chunks:
        due = (state.ended_at or now) + CHUNKS_WAIT
    else:
        return 0.0
    return max(0.0, (due - now).total_seconds())
