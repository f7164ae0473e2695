"""Decides what a running edge takes from a configuration that is read again, and what waits for a restart.

Names settings in what it says, never their values; a configuration with a fault changes nothing.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import msgspec
import structlog

from services.edge.config import EdgeConfig
from services.runtime import config as settings
from services.runtime.config import ConfigFaults
from services.runtime.errors import StartRefused
from services.runtime.kafka import KafkaConfig

log = structlog.get_logger(__name__)

# All others are built into a listener, a pool of connections or a spool, and wait for a restart.
RELOADABLE = frozenset(
    (
        "master_key",
        "public_url",
        "own_key_hash_secret",
        "disable_end_user_cost_tracking",
        "body_bytes_max",
        "decoded_body_bytes_max",
        "bodies_in_memory_bytes_max",
        "batch_body_bytes_max",
        "batches.bytes_max",
        "upstream.name",
        "upstream.api_key",
        "upstream.auth_token",
        "upstream.total_s_max",
        "spool.when_full",
        "drain.on_disconnect",
        "drain.seconds_max",
        "drain.exchanges_max",
    )
)


class Read(NamedTuple):
    """What a configuration says to an edge."""

    edge: EdgeConfig
    kafka: KafkaConfig


Reread = Callable[[], Read]
"""Reads the configuration anew, off the event loop; StartRefused where it has faults or cannot be read."""


class Reloaded(NamedTuple):
    """What runs from now on, and the settings that differ: those that are in force, those that wait."""

    config: EdgeConfig
    changed: tuple[str, ...]
    waiting: tuple[str, ...]


def reloaded(running: Read, given: Read) -> Reloaded:
    """Lay what can change over what runs; ConfigFaults where the two do not fit each other.

    A master key can be replaced, but not come or go: whether there are virtual keys hangs on it.
    """
    old, new = _leaves(running.edge), _leaves(given.edge)
    differing = [path for path in old if old[path] != new[path]]
    reloadable = RELOADABLE
    if bool(running.edge.master_key) != bool(given.edge.master_key):
        reloadable = RELOADABLE - {"master_key"}
    changed = tuple(path for path in differing if path in reloadable)
    merged = settings.override(_mapped(running.edge), {path: new[path] for path in changed})
    decoded = settings.decode({"edge": merged}, {"edge": EdgeConfig})["edge"]
    kafka = _leaves(running.kafka)
    return Reloaded(
        config=cast("EdgeConfig", decoded),
        changed=tuple(f"edge.{path}" for path in changed),
        waiting=(
            *(f"edge.{path}" for path in differing if path not in reloadable),
            *(f"kafka.{path}" for path, value in _leaves(given.kafka).items() if kafka[path] != value),
        ),
    )


class Reloading:
    """Reads the configuration again for one edge, and applies it whole or not at all."""

    def __init__(self, reread: Reread, running: Read, apply: Callable[[EdgeConfig], None]) -> None:
        self._reread = reread
        self._running = running
        self._apply = apply

    async def reload(self) -> None:
        """Read and apply; one log line says what came of it."""
        try:
            found = reloaded(self._running, await asyncio.to_thread(self._reread))
        except ConfigFaults as exc:
            log.warning("config.reload_refused", faults=exc.faults)
            return
        except StartRefused as exc:
            log.warning("config.reload_refused", faults=[str(exc)])
            return
        self._apply(found.config)
        self._running = self._running._replace(edge=found.config)
        log.info("config.reloaded", changed=found.changed, needs_restart=found.waiting)


def _leaves(struct: EdgeConfig | KafkaConfig) -> dict[str, object]:
    return dict(settings.leaves(_mapped(struct)))


def _mapped(struct: EdgeConfig | KafkaConfig) -> Mapping[str, object]:
    return cast("dict[str, object]", msgspec.to_builtins(struct))
