"""How long it takes to rate one event: decode, judge, encode. Reports, and never fails.

    python -m tests.bench.rating [--events 20000]

One core, one process, no Kafka. Each kind of event is timed by itself, event by event.
"""

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

from schemas import codec
from schemas.usage import UsageRecorded
from services.rating.pricing import judge
from tests.golden.cases import all_cases, fact_of
from tests.unit.rating.cases import BOOK

AIM_US = 60
EVENTS = 20_000
WARM_UP_EVENTS = 2_000
KINDS = {
    "plain": "models: claude-sonnet-5-5, every dimension",
    "long prompt, batch, us": "tiers: haiku 5.5, 100001 tokens of input in a batch, us",
    "iterations": "iterations: an advisor",
    "no price": "other_gateways: claude-sonnet-6, a model of tomorrow",
}


class Timing(NamedTuple):
    """Microseconds for one event."""

    p50: float
    p90: float
    p99: float
    mean: float


def main() -> None:
    """Print a row a kind, and one of each step for an ordinary event."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS, help="events of each kind")
    events = parser.parse_args().events
    cases = all_cases()
    print(f"{'decode, judge, encode':<28}{'p50':>8}{'p90':>8}{'p99':>8}{'mean':>8}  us; the aim is {AIM_US}")
    values = {kind: codec.encode(fact_of(cases[name])) for kind, name in KINDS.items()}
    for kind, value in values.items():
        print(row(kind, timed(lambda value=value: rated(value), events)))
    fact = codec.decode(UsageRecorded, values["plain"])
    verdict = judge(fact, BOOK)
    print()
    print(row("plain: decode", timed(lambda: codec.decode(UsageRecorded, values["plain"]), events)))
    print(row("plain: judge", timed(lambda: judge(fact, BOOK), events)))
    print(row("plain: encode", timed(lambda: codec.encode(verdict.rated), events)))


def rated(value: bytes) -> bytes:
    """Do what a rating process does with one record."""
    return codec.encode(judge(codec.decode(UsageRecorded, value), BOOK).rated)


def timed(work: Callable[[], object], events: int) -> Timing:
    """Time each event by itself, after some that do not count."""
    for _ in range(WARM_UP_EVENTS):
        work()
    taken: list[int] = []
    for _ in range(events):
        began = time.perf_counter_ns()
        work()
        taken.append(time.perf_counter_ns() - began)
    taken.sort()
    ranks = (taken[int(len(taken) * share)] / 1000 for share in (0.5, 0.9, 0.99))
    return Timing(*ranks, sum(taken) / len(taken) / 1000)


def row(name: str, timing: Timing) -> str:
    """Write one line of the table."""
    return f"{name:<28}" + "".join(f"{each:>8.1f}" for each in timing)


if __name__ == "__main__":
    main()
