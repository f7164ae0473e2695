"""The short form of `make chaos`: everybody is killed under load, and nothing is lost or doubled."""

import asyncio
import os
import random

from tests.chaos.run import SEED, Options, run_chaos

TEST_S_MAX = 240.0  # usually 30; a machine that is busy takes longer to start thirteen processes


def test_nothing_is_lost_and_nothing_doubled_whoever_is_killed(tmp_path):
    """TOLLHOUSE_CHAOS_SEED draws other faults: a number, or `random`."""
    asked = os.environ.get("TOLLHOUSE_CHAOS_SEED", "") or str(SEED)
    seed = random.SystemRandom().randrange(10**8) if asked == "random" else int(asked)
    print(f"make chaos SEED={seed} FAULTS=9")
    report = asyncio.run(asyncio.wait_for(run_chaos(Options(seed), tmp_path, print), TEST_S_MAX))
    print(report)
    assert report.judgement.is_clean, str(report)
    assert report.endings["complete"] > 0
