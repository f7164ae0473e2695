"""Counts the bytes of bodies that this process holds, so that they never outgrow its memory or its disk."""


class MemoryFull(Exception):
    """There is no room for more of this body now."""


class BodyMemory:
    """The room that all bodies share; `held` is what is taken of it."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.held = 0

    def lease(self) -> "BodyLease":
        """Begin to take room for one body."""
        return BodyLease(self)

    def has_room_for(self, size: int) -> bool:
        """Say whether so much could be taken now."""
        return self.held + size <= self.bytes_max

    def take(self, size: int) -> None:
        """Take room; MemoryFull where there is too little."""
        if not self.has_room_for(size):
            raise MemoryFull
        self.held += size


class BodyLease:
    """The room of one body; a context manager, so that it is released however the exchange ends."""

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self._size = 0

    def __enter__(self) -> "BodyLease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def grow(self, size: int) -> None:
        """Take room for more of the body; MemoryFull where there is too little."""
        self._memory.take(size)
        self._size += size

    def hold(self, size: int) -> None:
        """Take or give back room, so that it is `size` in all."""
        self.grow(size - self._size)

    def release(self) -> None:
        """Give the room back; a second call does nothing."""
        self._memory.held -= self._size
        self._size = 0
