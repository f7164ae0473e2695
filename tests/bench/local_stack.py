"""Measures the local Kafka beside Apache Kafka, and the local ClickHouse, in one run; prints Markdown.

Figures of two brokers are taken in turn and compared pair by pair, so that they hold when the machine's speed
drifts. What it writes is deleted at its end; it refuses to start where the disk is short.
"""

import argparse
import asyncio
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from tests.bench import clickhouse_rates
from tests.bench.brokers import Broker, BrokerAway, apache_kafka, local_kafka
from tests.bench.kafka_rates import (
    PARTITIONS,
    consume_with_aiokafka,
    consume_with_librdkafka,
    create_topic,
    make_records,
    produce_with_aiokafka,
    produce_with_librdkafka,
)
from tests.bench.machine import MB, described, directory_mb, rss_mb

BUILD = Path(__file__).parents[2] / "build"
# Two clients write this often without compression, so that the log of each broker passes 1 GB.
ROUNDS = 3
RECORDS = 120_000
# Not counted, with each client and coding: a JVM compiles what it runs often.
WARM_UP_RECORDS = 20_000
SEED = 20261122
# Two logs of 1.7 GB at most, and the tables.
DISK_MB_MIN = 6_000
CODINGS = ("none", "zstd")
RUN_S_MAX = 1_200  # ten times what it takes on two idle cores

Produce = Callable[[str, str, Sequence[bytes], str], float]
Consume = Callable[[str, str, int], float]
Row = tuple[str, str, str, str]

PRODUCERS: dict[str, Produce] = {
    "aiokafka": lambda *asked: asyncio.run(produce_with_aiokafka(*asked)),
    "librdkafka": produce_with_librdkafka,
}
CONSUMERS: dict[str, Consume] = {
    "aiokafka": lambda *asked: asyncio.run(consume_with_aiokafka(*asked)),
    "librdkafka": consume_with_librdkafka,
}


class TookTooLong(Exception):
    """The machine is too slow or too busy for figures that mean anything."""


def main() -> int:
    """Measure and print; exit code 2 with a sentence where that cannot be done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS, help=f"per measurement, default {RECORDS}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default {ROUNDS}")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", choices=("kafka", "clickhouse"), help="default: both")
    asked = parser.parse_args()
    BUILD.mkdir(exist_ok=True)
    if shutil.disk_usage(BUILD).free < DISK_MB_MIN * MB:
        sys.stderr.write(f"{BUILD} needs {DISK_MB_MIN} MB of free disk.\n")
        return 2
    print(f"{described()}; seed {asked.seed}, {asked.rounds} rounds\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=BUILD) as directory:
        try:
            if asked.only != "clickhouse":
                _print_table(*_kafka(Path(directory), asked.records, asked.rounds, asked.seed))
            if asked.only != "kafka":
                _print_table(*_clickhouse(Path(directory) / "clickhouse", asked.rounds, asked.seed))
        except (BrokerAway, TookTooLong) as exc:
            sys.stderr.write(f"{exc}\n")
            return 2
    print(f"afterwards: {described()}")
    return 0


def _kafka(directory: Path, record_count: int, rounds: int, seed: int) -> tuple[Row, list[Row]]:
    pool = make_records(seed)
    records = list(itertools.islice(itertools.cycle(pool), record_count))
    with ExitStack() as stack:
        brokers = (
            stack.enter_context(local_kafka(directory / "local")),
            stack.enter_context(apache_kafka(directory / "apache")),
        )
        title = (
            f"Kafka: {record_count:,} records of {len(pool[0]):,} bytes of JSON at a time, "
            f"{PARTITIONS} partitions, acks=all, idempotent"
        )
        rows = [
            _row("start on an empty directory, s", [[broker.start_s] for broker in brokers], 2),
            _row("RSS idle, MB", [[rss_mb(broker.pid)] for broker in brokers], 0),
        ]
        _rates_of_rounds(brokers, records[:WARM_UP_RECORDS], ("warm-up",))
        rates = _rates_of_rounds(brokers, records, [str(number) for number in range(rounds)])
        rows += [_row(name, pairs, 0) for name, pairs in rates.items()]
        rows += [
            _row("bytes on disk, MB", [[directory_mb(broker.data_dir)] for broker in brokers], 0),
            _row("RSS after all of it, MB", [[rss_mb(broker.pid)] for broker in brokers], 0),
        ]
        return (title, brokers[0].name, brokers[1].name, "local / Apache"), rows


def _rates_of_rounds(
    brokers: Sequence[Broker], records: Sequence[bytes], rounds: Sequence[str]
) -> dict[str, list[list[float]]]:
    """Give records per second by measurement, then by broker, then by round."""
    rates: dict[str, list[list[float]]] = {}
    deadline_s = time.monotonic() + RUN_S_MAX
    for name, client, coding in itertools.product(rounds, PRODUCERS, CODINGS):
        if time.monotonic() > deadline_s:
            raise TookTooLong(f"The rounds took more than {RUN_S_MAX} s; try again when the machine is idle.")
        topic = f"bench-{client}-{coding}-{name}"
        for place, broker in enumerate(brokers):
            create_topic(broker.servers, topic)
            taken_s = PRODUCERS[client](broker.servers, topic, records, coding)
            _note(rates, f"produce, {client}, {coding}, records/s", place, len(records) / taken_s)
        for place, broker in enumerate(brokers):
            taken_s = CONSUMERS[client](broker.servers, topic, len(records))
            _note(rates, f"consume, {client}, {coding}, records/s", place, len(records) / taken_s)
    return rates


def _note(rates: dict[str, list[list[float]]], name: str, place: int, rate: float) -> None:
    rates.setdefault(name, [[], []])[place].append(rate)


def _clickhouse(data_dir: Path, rounds: int, seed: int) -> tuple[Row, list[tuple[str, ...]]]:
    figures = clickhouse_rates.measure(data_dir, rounds, seed)
    title = f"ClickHouse: blocks of {clickhouse_rates.BLOCK_ROWS} rows of tollhouse_raw.usage"
    rows: list[tuple[str, ...]] = [
        ("start on an empty directory, s", f"{figures.start_s:.2f}", "", ""),
        ("RSS idle, MB", f"{figures.idle_mb:.0f}", "", ""),
    ]
    for name, rates in figures.rows_per_s.items():
        counted = [f"{statistic(rates):,.0f}" for statistic in (median, min, max)]
        rows.append((f"insert, {name}, rows/s", *counted))
    rows += [
        (f"bytes on disk after {figures.rows:,} rows, MB", f"{figures.disk_mb:.0f}", "", ""),
        ("RSS after all of it, MB", f"{figures.after_mb:.0f}", "", ""),
    ]
    return (title, "median", "least", "most"), rows


def _row(name: str, pairs: Sequence[Sequence[float]], digits: int) -> Row:
    """Write a line: the medians of both, and the median of the ratios pair by pair."""
    local, apache = pairs
    ratio = median(one / other for one, other in zip(local, apache, strict=True))
    return name, f"{median(local):,.{digits}f}", f"{median(apache):,.{digits}f}", f"{ratio:.2f}"


def _print_table(head: Row, rows: Sequence[tuple[str, ...]]) -> None:
    for line in (head, ("---",) * len(head), *rows):
        print(f"| {' | '.join(line)} |")
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
