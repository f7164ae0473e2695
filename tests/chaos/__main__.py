"""`make chaos`: runs chaos once and prints its report; exit code 1 where anything is not as it must be."""

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import SEED, Options, run_chaos
from tests.chaos.world import KAFKA


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED, help="of faults and traffic (default: %(default)s)")
    parser.add_argument("--faults", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=6, help="at work at a time (default: %(default)s)")
    parser.add_argument(
        "--kafka",
        choices=("local", "apache"),
        default=KAFKA,
        help="the stand-in, or three brokers of Apache Kafka (default: TOLLHOUSE_CHAOS_KAFKA, else local)",
    )
    parser.add_argument("--data-dir", type=Path, help="kept; without it a temporary one, kept on failure")
    asked = parser.parse_args()
    data_dir = asked.data_dir or Path(tempfile.mkdtemp(prefix="tollhouse-chaos-"))
    data_dir.mkdir(parents=True, exist_ok=True)
    options = Options(asked.seed, asked.faults, asked.kafka, asked.clients)
    print(f"seed {asked.seed}, {asked.faults} faults, logs in {data_dir / 'logs'}", flush=True)
    report = asyncio.run(run_chaos(options, data_dir, lambda line: print(line, flush=True)))
    print(report)
    if report.judgement.is_clean and asked.data_dir is None:
        shutil.rmtree(data_dir)
    return 0 if report.judgement.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
