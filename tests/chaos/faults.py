"""Decides which faults a run meets, in which order and for how long, from a seed; does none of them."""

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

FaultKind = Literal["kill", "freeze", "restart", "cut", "reset", "stall", "slow"]
Room = Literal[
    "edge", "rating", "sink", "batch-tracker", "kafka", "clickhouse", "upstream-door", "clickhouse-door"
]

OF_PROCESSES: tuple[FaultKind, ...] = ("kill", "freeze", "restart")
OF_DOORS: tuple[FaultKind, ...] = ("cut", "reset", "stall", "slow")
PROCESSES: tuple[Room, ...] = ("edge", "rating", "sink", "batch-tracker", "kafka", "clickhouse")
DOORS: tuple[Room, ...] = ("upstream-door", "clickhouse-door")

BROKER_KILLS_MAX = 20
# Between a kill and the start behind it, and of a door's fault: long enough to be met by an insert.
AWAY_S_MIN, AWAY_S_MAX = 1.0, 3.0
FREEZE_S_MAX = 5.0
# Beyond the session of a consumer, so that the group gives its partitions away and a zombie wakes.
LONG_FREEZE_S = 18.0
# Beyond the time in which another edge adopts a dead one's spool.
LONG_AWAY_S = 75.0
LONG_SHARES = {
    ("edge", "kill"): 0.25,
    ("rating", "freeze"): 0.25,
    ("sink", "freeze"): 0.25,
    ("batch-tracker", "freeze"): 0.25,
}
# A short run ends before faults that last long begin.
SHORT_FAULTS_MAX = 22
PAUSE_S_MAX = 1.5  # between the beginnings of two faults; shorter than most of them, so that they overlap


class Fault(NamedTuple):
    """One fault: what, to whom, for how long, and how long after the one before it."""

    kind: FaultKind
    target: str
    seconds: float
    pause_s: float


def schedule(seed: int, count: int, targets: dict[Room, Sequence[str]]) -> list[Fault]:
    """Draw so many faults: every kind meets every room before any comes again, kills before all else."""
    dice = random.Random(seed)
    faults: list[Fault] = []
    broker_kills = 0
    for number, (room, kind) in enumerate(itertools.islice(_deck(dice), count)):
        if room == "kafka" and kind == "kill":
            broker_kills += 1
            kind = "kill" if broker_kills <= BROKER_KILLS_MAX else "freeze"
        pause_s = round(dice.uniform(0, PAUSE_S_MAX), 2)
        seconds = _seconds(dice, kind)
        if number >= SHORT_FAULTS_MAX and dice.random() < LONG_SHARES.get((room, kind), 0):
            seconds = LONG_AWAY_S if kind == "kill" else LONG_FREEZE_S
        faults.append(Fault(kind, dice.choice(targets[room]), seconds, pause_s))
    return faults


def _deck(dice: random.Random) -> Iterator[tuple[Room, FaultKind]]:
    pairs = [*itertools.product(PROCESSES, OF_PROCESSES), *itertools.product(DOORS, OF_DOORS)]
    for round_number in itertools.count():
        dice.shuffle(pairs)
        if round_number == 0:
            pairs.sort(key=lambda pair: pair[1] != "kill")
        yield from pairs


def _seconds(dice: random.Random, kind: FaultKind) -> float:
    if kind in ("reset", "restart"):
        return 0.0
    return round(dice.uniform(AWAY_S_MIN, FREEZE_S_MAX if kind == "freeze" else AWAY_S_MAX), 2)
