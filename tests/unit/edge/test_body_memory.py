"""How many bytes of request bodies a process holds, and that all of them are given back."""

import pytest

from services.edge.body_memory import BodyMemory, MemoryFull


def test_bodies_share_one_room_and_give_it_back():
    memory = BodyMemory(100)
    with memory.lease() as first, memory.lease() as second:
        first.grow(60)
        with pytest.raises(MemoryFull):
            second.grow(41)
        second.grow(40)
        assert memory.held == 100
        first.release()
        first.release()
        assert memory.held == 40
    assert memory.held == 0


def test_what_could_not_be_taken_is_not_given_back():
    memory = BodyMemory(10)
    with pytest.raises(MemoryFull), memory.lease() as lease:
        lease.grow(4)
        lease.grow(7)
    assert memory.held == 0
