"""`tollhouse spool`: what waits on this machine, and how a dead process's spool gets to Kafka."""

import asyncio
import json

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from click.testing import CliRunner

from schemas import codec
from schemas.topics import REQUESTS, RESPONSES, USAGE
from schemas.usage import UsageRecorded
from services.cli.commands import main
from services.edge import events
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher, Refused
from services.runtime.records import OutgoingRecord
from services.runtime.spool.frames import CLOSED, OPENED
from services.runtime.spool.pump import Pump
from services.runtime.spool.refused import REFUSED_NAME, set_aside
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


async def set_bytes_max(kafka, topic, limit):
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        settings = {"max.message.bytes": str(limit), "message.timestamp.type": "LogAppendTime"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, settings)])
    finally:
        await admin.close()


async def pumped(directory, kafka, *exchanges):
    spool, publisher = Spool(directory, MIB), Publisher(kafka)
    for each in exchanges:
        spool.append(each.request_id, CLOSED, events.opening(each))
    await Pump(spool, publisher).drain()
    await publisher.close()
    spool.close()


def test_what_kafka_refused_is_listed_and_published_again_when_the_cause_is_gone(tmp_path):
    """A topic whose limit is too small for anything; nothing is lost, and nothing goes twice."""
    root = tmp_path / "spool"
    process = BrokerProcess(tmp_path / "kafka")
    kafka = KafkaConfig(bootstrap_servers=process.start().address)
    asyncio.run(migrate_topics(kafka))
    address, of = kafka.bootstrap_servers, ("--directory", root)
    root.mkdir()
    assert tollhouse(address, "refused", "republish", *of) == (0, "nothing was refused\n", "")

    asyncio.run(set_bytes_max(kafka, REQUESTS, 10))
    asyncio.run(pumped(root / "0000", kafka, numbered(1), numbered(2)))
    code, out, err = tollhouse(address, "refused", "list", *of)
    head, *rows = out.splitlines()
    assert (code, err, head.split()) == (
        0,
        "2 of 2 shown\n",
        ["spool", "set_aside_at", "topic", "subject", "bytes", "error_class"],
    )
    assert [row.split()[3:5] for row in rows] == [[REQUESTS, numbered(n).request_id] for n in (1, 2)]
    _, out, _ = tollhouse(address, "refused", "list", *of, "--json", "--limit", "1")
    assert json.loads(out)["subject"] == numbered(2).request_id
    said = (0, f"{root}/0000: 2 records would be published\n", "")
    assert tollhouse(address, "refused", "republish", *of, "--dry-run") == said

    code, out, err = tollhouse(address, "refused", "republish", *of)
    assert (code, out) == (1, f"{root}/0000: 0 published, 2 refused again\n")
    assert "2 records stay in refused.jsonl: raise max.message.bytes" in err
    asyncio.run(set_bytes_max(kafka, REQUESTS, MIB))
    assert tollhouse(address, "refused", "republish", *of) == (0, f"{root}/0000: 2 published\n", "")
    found = asyncio.run(read_all(kafka, REQUESTS, 12))
    assert {dict(each.headers)["ce_subject"].decode() for each in found} == {
        numbered(number).request_id for number in (1, 2)
    }
    assert len(found) == 2
    assert tollhouse(address, "refused", "republish", *of) == (0, "nothing was refused\n", "")
    process.stop()


def test_what_was_refused_stays_while_kafka_is_away(tmp_path):
    (tmp_path / "0000").mkdir()
    (tmp_path / "0000" / "lock").touch()
    set_aside(tmp_path / "0000", "spool", Refused(OutgoingRecord(USAGE, b"k", b"v", ()), "TooLarge"))
    before = (tmp_path / "0000" / REFUSED_NAME).read_bytes()
    code, out, err = tollhouse("127.0.0.1:1", "refused", "republish", "--directory", tmp_path)
    assert (code, out) == (1, f"{tmp_path}/0000: 0 published, 1 not tried\n")
    assert err.endswith("; what was not published is still there: run this again.\n")
    assert (tmp_path / "0000" / REFUSED_NAME).read_bytes() == before
