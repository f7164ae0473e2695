"""`tollhouse spool`: what waits on this machine, and how a dead process's spool gets to Kafka."""

import asyncio
import json

from click.testing import CliRunner

from schemas import codec
from schemas.topics import REQUESTS, RESPONSES, USAGE
from schemas.usage import UsageRecorded
from services.cli.commands import main
from services.edge import events
from services.runtime.kafka import KafkaConfig
from services.runtime.spool.frames import OPENED
from services.runtime.spool.store import Spool
from services.runtime.topics import migrate_topics
from tests.integration.local_kafka.brokers import BrokerProcess
from tests.integration.runtime.clients import read_all
from tests.unit.edge.exchanges import numbered

MIB = 1 << 20


def tollhouse(kafka, *arguments):
    environ = {"KAFKA_BOOTSTRAP_SERVERS": kafka}
    result = CliRunner().invoke(main, ["spool", *map(str, arguments)], env=environ)
    return result.exit_code, result.stdout, result.stderr


def left_behind(directory):
    spool = Spool(directory, MIB)
    for number in range(3):
        exchange = numbered(number)
        spool.append(exchange.request_id, OPENED, events.opening(exchange))
    spool.close()


def test_a_dead_spool_is_listed_and_replayed_and_a_second_time_changes_nothing(tmp_path):
    root = tmp_path / "spool"
    left_behind(root / "0000")
    process = BrokerProcess(tmp_path / "kafka")
    kafka = KafkaConfig(bootstrap_servers=process.start().address)
    asyncio.run(migrate_topics(kafka))
    address = kafka.bootstrap_servers

    code, out, _ = tollhouse(address, "list", "--directory", root)
    head, row = out.splitlines()
    assert (code, head.split()[2:5]) == (0, ["state", "waiting", "open"])
    assert row.split()[2:5] == ["nobody's", "3", "3"]
    code, out, _ = tollhouse(address, "list", "--directory", root, "--json")
    assert (json.loads(out)["entries"], json.loads(out)["is_held"]) == (3, False)

    first = f"{root}/0000: 3 entries to publish, 3 exchanges to close\n"
    assert tollhouse(address, "replay", root / "0000", "--dry-run")[:2] == (0, first)
    assert asyncio.run(read_all(kafka, USAGE, 12)) == []
    assert tollhouse(address, "replay", root / "0000")[:2] == (
        0,
        f"{first}published 6 entries, 0 to go\ndone: 6 entries published, 3 exchanges closed as orphaned\n",
    )
    assert tollhouse(address, "replay", root / "0000")[:2] == (0, f"{root}/0000: nothing to publish\n")
    found = asyncio.run(read_all(kafka, USAGE, 12))
    usages = [codec.decode(UsageRecorded, each.value) for each in found]
    assert {(each.request_id, each.outcome) for each in usages} == {
        (numbered(number).request_id, "orphaned") for number in range(3)
    }
    for topic in (REQUESTS, RESPONSES, USAGE):
        assert len(asyncio.run(read_all(kafka, topic, 12))) == 3
    process.stop()


def test_a_spool_that_somebody_has_and_what_is_none_are_refused(tmp_path):
    spool = Spool(tmp_path / "0000", MIB)
    assert tollhouse("127.0.0.1:1", "replay", tmp_path / "0000") == (
        2,
        "",
        f"tollhouse: {tmp_path}/0000 belongs to a running process, which publishes it itself.\n",
    )
    spool.close()
    assert tollhouse("127.0.0.1:1", "replay", tmp_path)[2] == (
        f"tollhouse: {tmp_path} is no spool; `tollhouse spool list` names them.\n"
    )
    code, _, err = tollhouse("127.0.0.1:1", "list", "--directory", tmp_path / "nowhere")
    assert (code, err) == (
        2,
        f"tollhouse: {tmp_path}/nowhere is no directory: has an edge run with this configuration?\n",
    )


def test_without_kafka_everything_stays_and_the_command_says_so(tmp_path):
    left_behind(tmp_path / "0000")
    code, _, err = tollhouse("127.0.0.1:1", "replay", tmp_path / "0000")
    assert (
        code,
        f"6 entries are left in {tmp_path}/0000, to be published when this is run again" in err,
    ) == (
        1,
        True,
    )
    spool = Spool(tmp_path / "0000", MIB)
    assert (spool.entries, spool.unclosed()) == (6, [])
    spool.close()
