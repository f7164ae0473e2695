"""Runs a scene on a clock that jumps: nobody waits, and how long they would have waited is exact."""

import asyncio
import selectors


class _Jumping(selectors.DefaultSelector):
    """Moves the clock on in place of waiting."""

    now_s = 0.0

    def select(self, timeout=None):
        assert timeout is not None, "everybody waits, and nothing would ever wake them"
        self.now_s += max(timeout, 0.0)
        return super().select(0)


def seconds_of(scene):
    """Run a scene that waits for nothing but time; give how many seconds it took on its own clock."""
    selector = _Jumping()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now_s
    try:
        loop.run_until_complete(scene)
    finally:
        loop.close()
    return selector.now_s
