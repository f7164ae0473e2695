"""`tollhouse dlq` on a broker: what is shown, what never is, and that each record goes back once."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from schemas import codec
from schemas.dead_letters import REDRIVE, DeadLetter
from schemas.topics import RATED, USAGE
from services.cli.commands import main
from services.runtime.dead_letters import dead_letter
from services.runtime.errors import StartRefused
from services.runtime.kafka import KafkaConfig
from services.runtime.records import ConsumedRecord, DeadRecord
from services.runtime.redrive import dead_letter_topics, summaries
from services.runtime.topics import migrate_topics
from tests.integration.local_kafka.brokers import BrokerProcess
from tests.integration.runtime.clients import publish, read_all

PARTITIONS = 12
HEADERS = (("ce_id", b"\xff\x00"), ("ce_type", b"tollhouse.usage_recorded.v1"))
SECRET = b"vk_a-key"


@pytest.fixture
def dead(tmp_path):
    """A broker with three dead letters of two stages, and a record that is none."""
    process = BrokerProcess(tmp_path / "kafka")
    kafka = KafkaConfig(bootstrap_servers=process.start().address)
    sources = [
        ConsumedRecord(USAGE, 7, 40, 0, SECRET, b'{"body": "\x1b[31m"}', HEADERS),
        ConsumedRecord(USAGE, 3, 41, 0, None, b"\xff not JSON", ()),
        ConsumedRecord(RATED, 0, 5, 0, SECRET, None, HEADERS),
    ]
    stages = ["rating", "rating", "sink"]
    classes = ["Undecodable", "ImplausibleUsage", "Undecodable"]
    letters = [
        dead_letter(stage, DeadRecord(source, name, "at $.tokens"))
        for stage, source, name in zip(stages, sources, classes, strict=True)
    ]

    async def prepare():
        await migrate_topics(kafka)
        await publish(kafka, [*letters, letters[0]._replace(value=b"no letter")])
        await publish(kafka, letters[:1])  # of a replay

    asyncio.run(prepare())
    yield kafka
    process.stop()


def tollhouse(kafka, *arguments, answer=""):
    result = CliRunner().invoke(
        main, ["dlq", *arguments], env={"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}, input=answer
    )
    assert SECRET.decode() not in result.output
    return result.exit_code, result.stdout, result.stderr


def listed(kafka, *options):
    code, out, _ = tollhouse(kafka, "list", "--json", *options)
    assert code == 0
    return [json.loads(line) for line in out.splitlines()]


def positions(kafka, *options):
    return {(each["topic"], each["partition"], each["offset"]) for each in listed(kafka, *options)}


def records(kafka, topic):
    found = asyncio.run(read_all(kafka, topic, PARTITIONS))
    return [(each.key, each.value, each.headers) for each in found]


def test_dead_letters_are_listed_shown_and_sent_back_once(dead):
    assert positions(dead) == {(USAGE, 7, 40), (USAGE, 3, 41), (RATED, 0, 5)}
    assert positions(dead, "--error-class", "Undecodable") == {(USAGE, 7, 40), (RATED, 0, 5)}
    assert positions(dead, "--topic", f"{USAGE}.dlq", "--stage", "rating", "--limit", "1") < {
        (USAGE, 7, 40),
        (USAGE, 3, 41),
    }
    code, out, err = tollhouse(dead, "list")
    assert (code, err, len(out.splitlines())) == (0, "3 of 3 shown, 0 sent back before\n", 4)
    assert "body" not in out

    code, out, _ = tollhouse(dead, "show", USAGE, "7", "40")
    assert (code, '{"body": "?[31m"}' in out, "Undecodable: at $.tokens" in out) == (0, True, True)
    code, out, err = tollhouse(dead, "show", USAGE, "7", "41")
    assert (code, out, err) == (2, "", f"tollhouse: there is no dead letter of {USAGE} 7 41.\n")

    one = ("redrive", "--topic", USAGE, "--partition", "7", "--offset", "40")
    assert tollhouse(dead, *one, "--dry-run")[1].endswith("1 records would be sent back\n")
    assert tollhouse(dead, *one, answer="n\n")[0] == 1
    assert records(dead, USAGE) == []
    assert tollhouse(dead, *one, answer="y\n")[:1] == (0,)
    assert records(dead, USAGE) == [(SECRET, b'{"body": "\x1b[31m"}', HEADERS)]
    assert tollhouse(dead, *one, "--yes")[:2] == (0, "nothing to send back\n")
    assert positions(dead) == {(USAGE, 3, 41), (RATED, 0, 5)}
    assert positions(dead, "--all") == {(USAGE, 7, 40), (USAGE, 3, 41), (RATED, 0, 5)}

    for _ in range(2):
        assert tollhouse(dead, "redrive", "--all", "--yes")[0] == 0
    assert (len(records(dead, USAGE)), records(dead, RATED)) == (2, [(SECRET, None, HEADERS)])
    assert positions(dead) == set()


def test_a_record_that_is_set_aside_again_waits_again(dead):
    assert tollhouse(dead, "redrive", "--all", "--yes")[0] == 0
    again = ConsumedRecord(USAGE, 3, 41, 0, None, b"\xff not JSON", ())
    asyncio.run(publish(dead, [dead_letter("rating", DeadRecord(again, "Undecodable", ""))]))
    assert positions(dead) == {(USAGE, 3, 41)}


def test_the_mark_is_a_letter_that_holds_no_value(dead):
    before = datetime.now(UTC)
    tollhouse(dead, "redrive", "--topic", RATED, "--all", "--yes")
    _, mark = [codec.decode(DeadLetter, value) for _, value, _ in records(dead, f"{RATED}.dlq")]
    assert before <= mark.dead_at
    assert mark == DeadLetter(
        topic=RATED,
        partition=0,
        offset=5,
        stage=REDRIVE,
        error_class="Redriven",
        error="sent back; it was set aside by sink",
        dead_at=mark.dead_at,
        key=SECRET,
        value=None,
    )


def test_what_is_asked_for_must_be_said(dead):
    assert tollhouse(dead, "redrive")[0] == 2
    assert "together" in tollhouse(dead, "redrive", "--partition", "1")[2]
    code, _, err = tollhouse(dead, "list", "--topic", "gateway.edges.v1")
    assert (code, err.startswith("tollhouse: gateway.edges.v1 keeps no dead letters; those that do are")) == (
        2,
        True,
    )


def test_a_kafka_that_is_not_there_is_one_sentence():
    code, _, err = tollhouse(KafkaConfig(bootstrap_servers="127.0.0.1:1"), "list")
    assert (code, err.startswith("tollhouse: cannot reach Kafka at 127.0.0.1:1: ")) == (2, True)


def test_more_than_a_person_can_look_through_is_refused(dead):
    with pytest.raises(StartRefused, match="there are more than 2 dead letters: name one topic"):
        asyncio.run(summaries(dead, dead_letter_topics(), letters_max=2))
    assert len(asyncio.run(summaries(dead, dead_letter_topics(), letters_max=3))) == 3
