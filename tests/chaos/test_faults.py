"""A seed decides everything about the faults of a run, and a run of enough of them leaves nobody out."""

from collections import Counter

from tests.chaos.faults import (
    BROKER_KILLS_MAX,
    DOORS,
    OF_DOORS,
    OF_PROCESSES,
    PROCESSES,
    schedule,
)

TARGETS = {room: [f"{room}-1", f"{room}-2"] for room in (*PROCESSES, *DOORS)}
SHORT_S_MAX = 10.0
ROUND = len(PROCESSES) * len(OF_PROCESSES) + len(DOORS) * len(OF_DOORS)


def met(faults):
    return Counter((fault.kind, fault.target.rsplit("-", 1)[0]) for fault in faults)


def test_one_seed_means_one_schedule():
    assert schedule(7, 100, TARGETS) == schedule(7, 100, TARGETS)
    assert schedule(7, 100, TARGETS) != schedule(8, 100, TARGETS)


def test_a_longer_run_begins_as_a_shorter_one():
    assert schedule(7, 200, TARGETS)[:9] == schedule(7, 9, TARGETS)


def test_the_first_faults_kill_every_room():
    for seed in range(20):
        kills = schedule(seed, len(PROCESSES), TARGETS)
        assert met(kills) == Counter(("kill", room) for room in PROCESSES)


def test_every_kind_meets_every_room_before_any_comes_again():
    for seed in range(20):
        assert set(met(schedule(seed, ROUND, TARGETS)).values()) == {1}


def test_brokers_are_killed_so_many_times_and_no_more():
    faults = schedule(7, 40 * ROUND, TARGETS)
    assert met(faults)["kill", "kafka"] == BROKER_KILLS_MAX
    assert met(faults)["freeze", "kafka"] == 40 + 40 - BROKER_KILLS_MAX


def test_a_long_run_wakes_zombies_and_leaves_dead_edges_to_their_siblings():
    lasting = [fault for fault in schedule(7, 400, TARGETS) if fault.seconds > SHORT_S_MAX]
    assert set(met(lasting)) == {
        *(("freeze", room) for room in ("rating", "sink", "batch-tracker")),
        ("kill", "edge"),
    }


def test_a_short_run_has_short_faults():
    for seed in range(20):
        assert max(fault.seconds for fault in schedule(seed, 9, TARGETS)) < SHORT_S_MAX
