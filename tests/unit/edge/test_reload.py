"""What a running edge takes over from a configuration that is read again, and what waits for a restart."""

import asyncio
import re
from pathlib import Path

import msgspec
import pytest

from services.edge.config import DrainConfig, EdgeConfig, SpoolConfig, UpstreamConfig
from services.edge.reload import RELOADABLE, Read, Reloading, reloaded
from services.runtime import config
from services.runtime.config import ConfigFaults
from services.runtime.errors import StartRefused
from services.runtime.kafka import KafkaConfig

KAFKA = KafkaConfig()
RUNNING = EdgeConfig(master_key="sk-old", host="0.0.0.0", upstream=UpstreamConfig(api_key="old"))


def found(given, running=RUNNING, kafka=KAFKA):
    return reloaded(Read(running, KAFKA), Read(given, kafka))


def test_what_is_the_same_changes_nothing():
    assert found(RUNNING) == (RUNNING, (), ())


def test_keys_and_limits_change_and_are_named():
    given = msgspec.structs.replace(
        RUNNING,
        master_key="sk-new",
        body_bytes_max=1000,
        disable_end_user_cost_tracking=True,
        upstream=UpstreamConfig(auth_token="new", total_s_max=9.0),
        drain=DrainConfig(on_disconnect="cancel"),
        spool=SpoolConfig(when_full="shed"),
    )
    assert found(given) == (
        given,
        (
            "edge.master_key",
            "edge.disable_end_user_cost_tracking",
            "edge.body_bytes_max",
            "edge.upstream.api_key",
            "edge.upstream.auth_token",
            "edge.upstream.total_s_max",
            "edge.spool.when_full",
            "edge.drain.on_disconnect",
        ),
        (),
    )


def test_what_is_built_into_the_process_waits_and_the_rest_is_taken():
    given = msgspec.structs.replace(
        RUNNING, master_key="sk-new", port=4100, spool=SpoolConfig(directory="elsewhere", fsync=True)
    )
    kafka = KafkaConfig(bootstrap_servers="other:9092")
    assert found(given, kafka=kafka) == (
        msgspec.structs.replace(RUNNING, master_key="sk-new"),
        ("edge.master_key",),
        ("edge.port", "edge.spool.directory", "edge.spool.fsync", "kafka.bootstrap_servers"),
    )


def test_a_master_key_neither_comes_nor_goes():
    """The new file gives up the master key because it gives up the open address; that one still listens."""
    given = msgspec.structs.replace(RUNNING, master_key="", host="127.0.0.1")
    assert found(given) == (RUNNING, (), ("edge.host", "edge.master_key"))
    assert found(RUNNING, running=given) == (given, (), ("edge.host", "edge.master_key"))


def test_what_would_run_is_checked_whole_before_it_does():
    given = msgspec.structs.replace(RUNNING, upstream=UpstreamConfig(api_key="sk 1"))
    with pytest.raises(ConfigFaults) as caught:
        found(given)
    (fault,) = caught.value.faults
    assert fault.startswith("edge.upstream.api_key: holds a character that no key has")


def test_every_setting_that_can_change_is_one():
    settings = dict(config.leaves({"edge": msgspec.to_builtins(EdgeConfig())}))
    assert {f"edge.{name}" for name in RELOADABLE} - settings.keys() == set()


def test_the_page_on_settings_names_what_can_change():
    page = (Path(__file__).parents[3] / "deploy" / "README.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith("| changes at once |")]
    assert set(re.findall("`([a-z_.]+)`", row)) == RELOADABLE


@pytest.mark.parametrize("error", [ConfigFaults(["edge.port: no"]), StartRefused("cannot read the file.")])
def test_a_file_that_cannot_be_used_applies_nothing(error):
    applied = []

    def reread():
        raise error

    asyncio.run(Reloading(reread, Read(RUNNING, KAFKA), applied.append).reload())
    assert applied == []


def test_the_next_reading_is_compared_with_what_runs_by_then():
    applied = []
    files = [msgspec.structs.replace(RUNNING, master_key=key) for key in ("sk-2", "sk-2", "sk-3")]
    reloading = Reloading(lambda: Read(files[len(applied)], KAFKA), Read(RUNNING, KAFKA), applied.append)

    async def thrice():
        for _ in files:
            await reloading.reload()

    asyncio.run(thrice())
    assert [each.master_key for each in applied] == ["sk-2", "sk-2", "sk-3"]
