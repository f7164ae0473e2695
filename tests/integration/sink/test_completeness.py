"""What `tollhouse verify` counts: planted losses are found, what is only under way is never called one."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from click.testing import CliRunner

from schemas import codec, topics
from schemas.dead_letters import REDRIVE
from schemas.ids import EdgeId, new_edge_id
from services.cli import lateness, main, settings
from services.runtime.clickhouse import ClickHouse, ClickHouseConfig
from services.runtime.kafka import KafkaConfig
from services.runtime.records import OutgoingRecord
from services.runtime.topics import migrate_topics
from services.sink.completeness import EdgeAccount, accounts, ranges, unheard
from services.sink.handler import SinkStage
from services.sink.store import BlockStore
from tests.integration.local_kafka.brokers import BrokerProcess
from tests.integration.runtime.clients import publish
from tests.unit.sink import events

DAY = timedelta(days=1)
SETTLE_S = 60
# Without a word for so long, an edge is silent: settle_s and a minute.
SILENT_S = 121
NUMBERED = "request_id, edge_id, exchange_seq, started_at, ingested_at"


class Planted:
    """Rows of one edge that came into ClickHouse when the test says so, in seconds before now."""

    def __init__(self, config: ClickHouseConfig, edge_id: str = "") -> None:
        self.config = config
        self.edge_id = edge_id or new_edge_id()
        self.now = datetime.now(UTC)
        self._rows: dict[str, list[str]] = {"edges": [], "requests": [], "responses": [], "usage": []}

    def heartbeat(self, ago_s, seq, open_=0, oldest=0, shed=0, spool=0):
        at = self._at(ago_s)
        self._rows["edges"].append(
            f"('{self.edge_id}', {at}, {at}, {self._at(3600)}, {seq}, {open_}, {oldest}, {shed}, {spool})"
        )

    def began(self, *numbers, ago_s=100, request_id=None):
        for number in numbers:
            self._rows["requests"].append(self._row(number, ago_s, request_id))

    def finished(self, *numbers, ago_s=100):
        for number in numbers:
            self._rows["responses"].append(self._row(number, ago_s))

    def stored(self, *numbers, ago_s=100, outcome="completed", operation="messages", version=1):
        for number in numbers:
            row = self._row(number, ago_s)
            self._rows["usage"].append(f"{row[:-1]}, '{outcome}', '{operation}', {version})")

    def plant(self):
        columns = {
            "edges": "edge_id, at, ingested_at, process_started_at, exchange_seq, open_exchanges, "
            "oldest_open_seq, shed, spool_entries",
            "usage": f"{NUMBERED}, outcome, operation, row_version",
        }
        statements = [
            f"INSERT INTO tollhouse_raw.{table} ({columns.get(table, NUMBERED)}) VALUES {', '.join(rows)}"
            for table, rows in self._rows.items()
            if rows
        ]
        self._rows = {table: [] for table in self._rows}
        commanded(self.config, *statements)

    def _row(self, number, ago_s, request_id=None):
        at = self._at(ago_s)
        return f"('{request_id or uuid.uuid4()}', '{self.edge_id}', {number}, {at}, {at})"

    def _at(self, ago_s):
        return f"'{self.now - timedelta(seconds=ago_s):%Y-%m-%d %H:%M:%S.%f}'"[:-4] + "'"


def commanded(config, *statements):
    async def run():
        async with ClickHouse(config) as clickhouse:
            for statement in statements:
                await clickhouse.command(statement)

    asyncio.run(run())


def asked(config, since=DAY, settle_s=SETTLE_S) -> dict[str, EdgeAccount]:
    async def run():
        async with ClickHouse(config) as clickhouse:
            return await accounts(clickhouse, datetime.now(UTC) - since, settle_s)

    return {each.edge_id: each for each in asyncio.run(run())}


def counts(account: EdgeAccount) -> dict[str, object]:
    """Leave out what stands for nothing, and the times."""
    return {
        name: getattr(account, name)
        for name in account.__struct_fields__
        if name not in ("edge_id", "began_at", "heartbeat_at") and getattr(account, name)
    }


def sink_stored(config, *records):
    async def run():
        async with ClickHouse(config) as clickhouse:
            await SinkStage(BlockStore(clickhouse, retry_wait_ms_max=50)).process(records)

    asyncio.run(run())


@pytest.fixture
def edge(migrated) -> Planted:
    return Planted(migrated)


def test_a_running_edge_has_what_is_open_or_young_pending_and_nothing_missing(edge):
    edge.heartbeat(100, 6)
    edge.heartbeat(1, 10, open_=2, oldest=8)
    edge.began(*range(1, 11))
    edge.finished(*range(1, 8), 9)
    edge.stored(*range(1, 8))  # the usage of 9 is on its way
    edge.plant()
    assert counts(asked(edge.config)[edge.edge_id]) == {
        "accepted": 10,
        "finished": 8,
        "open": 2,
        "rated": 7,
        "stored": 7,
        "pending": 3,
    }


def test_a_number_without_a_record_is_missing_once_its_exchange_must_have_arrived(edge):
    edge.heartbeat(100, 9, open_=2, oldest=8)
    edge.heartbeat(90, 7)  # the clock of an edge may step back: nothing is judged by that
    edge.heartbeat(1, 9, open_=1, oldest=9)
    edge.began(*range(1, 10))
    edge.finished(1, 2, 4, 5, 7)
    edge.stored(1, 2, 4, 7)
    edge.plant()
    found = asked(edge.config)[edge.edge_id]
    assert (found.missing, found.missing_seqs, found.pending) == (3, (3, 5, 6), 2)


def test_an_exchange_that_runs_for_long_is_pending_and_all_older_ones_are_judged(edge):
    edge.heartbeat(500, 5, open_=1, oldest=4)
    edge.heartbeat(100, 50, open_=1, oldest=4)
    edge.heartbeat(1, 60, open_=1, oldest=4)
    edge.stored(1, 3, *range(5, 61))
    edge.plant()
    assert counts(asked(edge.config)[edge.edge_id]) == {
        "accepted": 60,
        "open": 1,
        "rated": 58,
        "stored": 58,
        # Of 2 and 4 one is open; the last heartbeat whose numbers had all closed is still to come.
        "pending": 2,
    }
    edge.heartbeat(100, 2)
    edge.plant()
    found = asked(edge.config)[edge.edge_id]
    assert (found.missing, found.missing_seqs, found.pending) == (1, (2,), 1)


def test_replays_prices_and_duplicates_count_once(edge):
    edge.heartbeat(100, 3)
    edge.heartbeat(100, 3)
    for version in (1, 1, 2):
        edge.began(1, 2, 3)
        edge.finished(1, 2, 3)
        edge.stored(1, 2, 3, version=version)
    edge.stored(1, 2, 3, 4, operation="batch_item")  # an item of a batch has no number of its own
    edge.plant()
    assert counts(asked(edge.config)[edge.edge_id]) == {
        "accepted": 3,
        "finished": 3,
        "rated": 3,
        "stored": 3,
    }


def test_an_orphan_is_one_only_until_its_real_ending_arrives(edge):
    edge.heartbeat(SILENT_S, 3, open_=2, oldest=2)
    edge.began(1, 2, 3, ago_s=SILENT_S)
    edge.stored(1, ago_s=SILENT_S)
    edge.stored(2, 3, outcome="orphaned", ago_s=SILENT_S)
    edge.stored(3, ago_s=SILENT_S)
    edge.plant()
    assert counts(asked(edge.config)[edge.edge_id]) == {
        "is_silent": True,
        "accepted": 3,
        "rated": 3,
        "stored": 3,
        "orphaned": 1,
    }


def test_what_was_shed_is_neither_missing_nor_hides_what_is(edge):
    edge.heartbeat(120, 6, shed=2)
    edge.heartbeat(100, 9, shed=3)
    edge.heartbeat(1, 12, shed=4)
    edge.stored(1, 2, 5, 6, 7, 8, 10, 11)
    edge.plant()
    assert counts(asked(edge.config)[edge.edge_id]) == {
        "accepted": 12,
        "rated": 8,
        "stored": 8,
        "shed": 4,
        "heartbeat_only": 1,
    }
    edge.heartbeat(90, 11, shed=3)
    edge.heartbeat(1, 13, shed=4)
    commanded(
        edge.config, "DELETE FROM tollhouse_raw.usage WHERE exchange_seq = 7 SETTINGS mutations_sync = 1"
    )
    edge.plant()
    found = asked(edge.config)[edge.edge_id]
    assert (found.missing, found.missing_seqs, found.shed, found.pending) == (1, (3, 4, 7, 9), 4, 1)


def letter(edge, number, **changes):
    usage = events.usage_recorded(edge_id=EdgeId(edge.edge_id), exchange_seq=number)
    changes = {"value": codec.encode(usage), "topic": topics.USAGE, "offset": number, **changes}
    return events.record_of(events.dead_letter(dead_at=edge.now - timedelta(seconds=300), **changes))


def test_dead_letters_account_for_their_exchanges_until_they_are_sent_back(edge):
    request_id = events.new_id()
    edge.heartbeat(100, 6)
    edge.began(*range(1, 6))
    edge.began(6, request_id=request_id)
    edge.stored(1)
    edge.plant()
    rated = events.rated_usage(events.usage_recorded(edge_id=EdgeId(edge.edge_id), exchange_seq=2))
    subject = (("ce_subject", request_id.encode()),)
    sink_stored(
        edge.config,
        letter(edge, 1),  # it was sent back, and is stored
        letter(edge, 2, topic=topics.RATED, value=codec.encode(rated)),
        letter(edge, 3),
        letter(edge, 3),
        letter(edge, 4),
        letter(edge, 5, topic=topics.REQUESTS),  # of the beginning, not of the usage
        letter(edge, 6, value=b"{", headers=subject),
    )
    assert counts(asked(edge.config)[edge.edge_id]) == {
        "accepted": 6,
        "rated": 2,
        "stored": 1,
        "dead_lettered": 4,
        "missing": 1,
        "missing_seqs": (5,),
    }
    mark = events.dead_letter(
        topic=topics.USAGE, offset=4, stage=REDRIVE, value=None, dead_at=edge.now - timedelta(seconds=200)
    )
    sink_stored(edge.config, events.record_of(mark))
    found = asked(edge.config)[edge.edge_id]
    assert (found.dead_lettered, found.missing_seqs) == (3, (4, 5))


def test_an_edge_that_is_known_by_its_heartbeats_alone_misses_all_once_it_is_silent(edge):
    edge.heartbeat(SILENT_S - 20, 5)
    edge.heartbeat(1, 5)
    silent = Planted(edge.config)
    silent.heartbeat(SILENT_S, 5, open_=2, oldest=4)
    idle = Planted(edge.config)
    idle.heartbeat(1, 0)
    for each in (edge, silent, idle):
        each.plant()
    found = asked(edge.config)
    assert counts(found[edge.edge_id]) == {
        "accepted": 5,
        "heartbeat_only": 5,
        "missing": 5,
        "missing_seqs": (1, 2, 3, 4, 5),
    }
    assert counts(found[silent.edge_id]) == {
        "is_silent": True,
        "accepted": 5,
        "heartbeat_only": 5,
        "missing": 5,
        "missing_seqs": (1, 2, 3, 4, 5),
    }
    assert counts(found[idle.edge_id]) == {}


def test_an_edge_that_was_killed_before_its_first_heartbeat_is_known_by_its_exchanges(edge):
    edge.began(1, 2, 3, ago_s=SILENT_S)
    edge.stored(1, 2, ago_s=SILENT_S)
    young = Planted(edge.config)
    young.began(1, 2, ago_s=10)
    young.stored(1, ago_s=5)
    for each in (edge, young):
        each.plant()
    found = asked(edge.config)
    assert counts(found[edge.edge_id]) == {
        "is_silent": True,
        "accepted": 3,
        "rated": 2,
        "stored": 2,
        "missing": 1,
        "missing_seqs": (3,),
    }
    assert found[edge.edge_id].heartbeat_at is None
    assert counts(found[young.edge_id]) == {"accepted": 2, "rated": 1, "stored": 1, "pending": 1}


def test_numbers_from_before_the_time_that_was_asked_for_do_not_count(edge):
    edge.heartbeat(7300, 5)
    edge.heartbeat(3700, 10)  # of 6 to 10 nothing is known, and nobody asked
    edge.stored(9, 10, ago_s=3700)
    edge.heartbeat(100, 14)
    edge.stored(11, 12, 14)
    gone = Planted(edge.config)
    gone.heartbeat(3700, 3)
    for each in (edge, gone):
        each.plant()
    found = asked(edge.config, since=timedelta(hours=1))
    assert found.keys() == {edge.edge_id}
    assert counts(found[edge.edge_id]) == {
        "accepted": 4,
        "rated": 3,
        "stored": 3,
        "missing": 1,
        "missing_seqs": (13,),
    }
    assert asked(edge.config)[edge.edge_id].missing_seqs == (1, 2, 3, 4, 5, 6, 7, 8, 13)


def test_an_edge_older_than_every_heartbeat_that_is_left_counts_from_its_first_row(edge):
    old = Planted(edge.config, "01900000-0000-7000-8000-000000000001")
    old.stored(1001, 1003)
    old.plant()
    found = asked(old.config)[old.edge_id]
    assert (found.accepted, found.stored, found.pending) == (3, 2, 1)


def test_heartbeats_that_cannot_judge_do_not(edge):
    edge.heartbeat(100, 5, open_=3)  # of a release that does not say which are open
    edge.heartbeat(90, 8, spool=1001)  # Kafka is just back: the records are behind this heartbeat
    edge.heartbeat(30, 9)  # too young
    edge.plant()
    assert counts(asked(edge.config)[edge.edge_id]) == {"accepted": 9, "heartbeat_only": 9, "pending": 9}


ASKED_AFTER_S_MAX = 30
SEED = int(os.environ.get("SEED", random.randrange(10**9)))


def test_any_history_of_an_edge_is_judged_as_it_was(migrated):
    """Losses below what has settled are missing, every one of them; what is only under way never is."""
    print(f"SEED={SEED}")
    chance = random.Random(SEED)
    losses = {}
    for _ in range(8):
        edge = Planted(migrated)
        losses[edge.edge_id] = lived(edge, chance, died_ago_s=chance.choice([0, 0, 150, 200]))
        edge.plant()
    found = asked(migrated)
    for edge_id, (lost, shed, judged_seqs) in losses.items():
        account = found[edge_id]
        assert account.shed == len(shed), account
        told = (account.missing, set(account.missing_seqs))
        assert any(told == unaccounted(lost, shed, seq) for seq in judged_seqs), account
        total = account.stored + account.dead_lettered + account.shed + account.pending + account.missing
        assert total == account.accepted, edge_id


def unaccounted(lost, shed, judged_seq):
    """How many are missing as far as is judged, and which numbers have no record if any is."""
    missing = {number for number in lost if number <= judged_seq}
    return len(missing), missing | {number for number in shed if number <= judged_seq} if missing else set()


def lived(edge, chance, died_ago_s):
    """Live 300 s with every mishap; give what was lost, what was shed, and how far it may be judged.

    How far depends on how long ago all this was when the question is asked: up to ASKED_AFTER_S_MAX.
    """
    exchanges = [
        (begin, begin + chance.choice([0.2, 1, 5, 90]) * chance.random())
        for begin in sorted(chance.uniform(-300, -died_ago_s) for _ in range(120))
    ]
    lost, shed = set(), set()
    for number, (begin, end) in enumerate(exchanges, start=1):
        fate = chance.random()
        if fate < 0.04:
            shed.add(number)
            continue
        edge.began(number, ago_s=-begin)
        if end > -died_ago_s:  # it was open when the edge died: adopted, or lost with the host
            if died_ago_s and fate < 0.5:
                edge.stored(number, ago_s=died_ago_s, outcome="orphaned")
            else:
                lost.add(number)
        elif fate < 0.08:
            lost.add(number)
        elif end + 20 * fate < 0:
            edge.stored(number, ago_s=-(end + 20 * fate))
        else:
            lost.add(number)  # on its way: above all that can be judged
    beats = []
    for second in range(-300, -died_ago_s):
        opened = [number for number, (begin, _) in enumerate(exchanges, 1) if begin <= second]
        still = [number for number in opened if exchanges[number - 1][1] > second]
        gone = len([number for number in opened if number in shed])
        edge.heartbeat(-second, len(opened), len(still), min(still, default=0), gone)
        beats.append((second, len(opened), min(still, default=len(opened) + 1) - 1))
    if died_ago_s:  # what was shed after the last heartbeat nobody can tell from what was lost
        told = {number for number in shed if number <= beats[-1][1]}
        seen = max(beats[-1][1], *(number for number in range(1, 121) if number not in shed))
        return lost | (shed - told), told, {seen}
    judged_seqs = set()
    for settled in range(-SETTLE_S - 1, -SETTLE_S + ASKED_AFTER_S_MAX):
        closed = max((closed for second, _, closed in beats if second <= settled), default=0)
        judged_seqs.add(max((seq for _, seq, _ in beats if seq <= closed), default=0))
    return lost, shed & set(range(1, beats[-1][1] + 1)), judged_seqs


# Nobody listens there.
NO_KAFKA = "127.0.0.1:1"


def tollhouse(config, *arguments, kafka=NO_KAFKA):
    clean = {name: None for name in os.environ if name.startswith(("KAFKA_", "CLICKHOUSE_", "TOLLHOUSE_"))}
    environ = {**clean, "CLICKHOUSE_URL": config.url, "KAFKA_BOOTSTRAP_SERVERS": kafka}
    return CliRunner().invoke(main, arguments, env=environ)


def test_verify_exits_with_one_and_names_the_numbers_where_any_is_missing(edge):
    edge.heartbeat(100, 9)
    edge.stored(1, 2, 6, 8, 9)
    edge.plant()
    result = tollhouse(edge.config, "verify", "--since", "2h")
    assert result.exit_code == 1
    head, row, named, advice, verdict = result.stdout.splitlines()
    assert head.split()[0] == "edge"
    assert row.split()[0] == edge.edge_id
    assert named == f"edge {edge.edge_id}: no record of 3-5, 7"
    assert advice.startswith(f"Kafka at {NO_KAFKA} does not answer (")
    assert advice.endswith("), so that what is late cannot be told from what is lost")
    assert verdict.startswith("4 missing, 0 pending of 9 exchanges since ")

    result = tollhouse(edge.config, "verify", "--json", "--wait", "3")
    report = json.loads(result.stdout)
    assert result.stderr == "waiting: 0 pending, 4 missing of 9\n"
    assert (result.exit_code, report["missing"], report["edges"][0]["missing_seqs"]) == (1, 4, [3, 4, 5, 7])


def test_verify_exits_with_nothing_where_all_are_accounted_for(edge):
    result = tollhouse(edge.config, "verify")
    assert (result.exit_code, result.stdout[:29]) == (0, "no edge was heard of since 20")
    edge.heartbeat(10, 2)
    edge.stored(1, 2)
    edge.plant()
    result = tollhouse(edge.config, "verify", "--wait", "60")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1].startswith("0 missing, 0 pending of 2 exchanges since ")


def test_verify_waits_for_what_is_on_its_way(edge):
    edge.heartbeat(100, 2)
    edge.stored(1)
    edge.plant()

    command = [sys.executable, "-m", "services.cli", "verify", "--wait", "60"]
    environ = {"CLICKHOUSE_URL": edge.config.url, "PATH": os.environ["PATH"]}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"waiting: 0 pending, 1 missing of 2\n"
        edge.stored(2)
        edge.plant()
        assert process.wait(60) == 0


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    process = BrokerProcess(tmp_path_factory.mktemp("kafka"))
    found = KafkaConfig(bootstrap_servers=process.start().address)
    asyncio.run(migrate_topics(found))
    yield found
    process.stop()


@pytest.fixture
def rooms(edge, kafka):
    """Settings in which rating and sink have groups of this test's own."""
    loaded = settings.load(None, {}, {})
    own = uuid.uuid4().hex
    return loaded._replace(
        kafka=kafka,
        clickhouse=edge.config,
        rating=msgspec.structs.replace(loaded.rating, group_id=f"rating-{own}"),
        sink=msgspec.structs.replace(loaded.sink, group_id=f"sink-{own}"),
    )


def published(kafka, topic):
    asyncio.run(publish(kafka, [OutgoingRecord(topic, b"k", b"{}", ())]))


def caught_up(kafka, group_id, *names):
    """Commit all that these topics hold, as a group that has done it."""

    async def commit():
        places = [TopicPartition(name, at) for name in names for at in range(topics.topic(name).partitions)]
        client = AIOKafkaConsumer(
            bootstrap_servers=kafka.bootstrap_servers, group_id=group_id, enable_auto_commit=False
        )
        await client.start()
        client.assign(places)
        await client.commit(await client.end_offsets(places))
        await client.stop()

    asyncio.run(commit())


def judged(rooms, wait_s=0.0, *, is_asked_once=True):
    """Judge what is missing now; asked once, nobody is waited for."""

    async def run():
        stopping = asyncio.Event()
        if is_asked_once:
            stopping.set()
        window = lateness.Window(datetime.now(UTC) - DAY, SETTLE_S)
        async with ClickHouse(rooms.clickhouse) as clickhouse:
            return await lateness.judged(rooms, clickhouse, window, wait_s, stopping)

    return asyncio.run(run())


def test_what_is_missing_is_late_while_a_consumer_has_records_to_do_and_lost_when_none_has(edge, rooms):
    edge.heartbeat(100, 3)
    edge.heartbeat(1, 3)
    edge.stored(1, 3)
    edge.plant()
    published(rooms.kafka, topics.USAGE)
    found = judged(rooms)
    (account,) = found.accounts
    assert (found.lag.rating > 0, account.late, account.missing, account.missing_seqs) == (True, 1, 0, ())
    assert lateness.advice(found)[0].startswith(
        f"late: rating has {found.lag.rating} records of gateway.usage"
    )

    caught_up(rooms.kafka, rooms.rating.group_id, topics.USAGE)
    published(rooms.kafka, topics.RATED)
    found = judged(rooms)
    assert (found.lag.rating, found.lag.sink > 0, found.accounts[0].late) == (0, True, 1)
    (line,) = lateness.advice(found)
    assert line.startswith(
        f"late: the sink has {found.lag.sink} records of gateway.rated.v1 and dead letters"
    )

    caught_up(rooms.kafka, rooms.sink.group_id, *lateness.BOOKED)
    found = judged(rooms, is_asked_once=False)
    (account,) = found.accounts
    assert (account.late, account.missing, account.missing_seqs) == (0, 1, (2,))
    assert (found.lag, lateness.advice(found)) == (lateness.Lag(), [])


def test_what_arrives_while_consumers_catch_up_was_only_late(edge, rooms):
    edge.heartbeat(100, 2)
    edge.heartbeat(1, 2)
    edge.stored(1)
    edge.plant()
    for group_id, names in ((rooms.rating.group_id, (topics.USAGE,)), (rooms.sink.group_id, lateness.BOOKED)):
        caught_up(rooms.kafka, group_id, *names)
    published(rooms.kafka, topics.RATED)
    assert judged(rooms).accounts[0].late == 1
    edge.stored(2)
    edge.plant()
    caught_up(rooms.kafka, rooms.sink.group_id, *lateness.BOOKED)
    found = judged(rooms, is_asked_once=False)
    assert [(each.stored, each.late, each.missing) for each in found.accounts] == [(2, 0, 0)]


@pytest.mark.parametrize(
    ("began_since", "open_", "spool", "late"),
    [
        (0, 0, 0, 0),
        (0, 0, 7, 1),  # nothing began since: what waits is older
        (20, 0, 7, 0),  # what waits began since, all that is older has left
        (20, 15, 7, 1),  # most of those have not appended yet
    ],
)
def test_a_spool_makes_an_edges_numbers_late_where_it_may_still_hold_them(
    edge, rooms, began_since, open_, spool, late
):
    for group_id, names in ((rooms.rating.group_id, (topics.USAGE,)), (rooms.sink.group_id, lateness.BOOKED)):
        caught_up(rooms.kafka, group_id, *names)
    last = 3 + began_since
    edge.heartbeat(100, 3)
    edge.heartbeat(1, last, open_=open_, oldest=last - open_ + 1 if open_ else 0, spool=spool)
    edge.stored(1, 3)
    edge.plant()
    found = judged(rooms, is_asked_once=False)
    (account,) = found.accounts
    assert (account.late, account.missing, account.pending) == (late, 1 - late, began_since)
    if late:
        assert lateness.advice(found) == [
            f"late: edge {edge.edge_id} has 7 entries in its spool; see spool.publish_failed in its log, and "
            "`tollhouse spool list` where it runs"
        ]


def test_a_silent_edges_spool_is_no_reason_to_wait(edge, rooms):
    """Nobody publishes it: a person has to look where it ran."""
    for group_id, names in ((rooms.rating.group_id, (topics.USAGE,)), (rooms.sink.group_id, lateness.BOOKED)):
        caught_up(rooms.kafka, group_id, *names)
    edge.heartbeat(SILENT_S + 100, 2)
    edge.heartbeat(SILENT_S, 2, spool=4)
    edge.stored(1, ago_s=SILENT_S + 50)
    edge.plant()
    (account,) = judged(rooms, is_asked_once=False).accounts
    assert (account.is_silent, account.late, account.missing) == (True, 0, 1)


def test_verify_exits_with_three_where_all_that_is_not_here_may_still_come(edge, kafka):
    edge.heartbeat(100, 2)
    edge.heartbeat(1, 2)
    edge.stored(1)
    edge.plant()
    published(kafka, topics.USAGE)
    command = [sys.executable, "-m", "services.cli", "verify", "--json"]
    environ = {
        "CLICKHOUSE_URL": edge.config.url,
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "PATH": os.environ["PATH"],
    }
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert process.stderr.readline().startswith(b"waiting: tollhouse.rating has ")
        process.send_signal(signal.SIGINT)  # who does not want to wait is told what is known
        report = json.loads(process.stdout.read())
        assert process.wait(60) == 3
    assert (report["late"], report["missing"], report["accepted"]) == (1, 0, 2)
    assert (report["lag"]["fault"], report["advice"] != []) == ("", True)


@pytest.mark.parametrize(
    ("heard_s", "now_s", "is_unheard"), [(-1, 0, True), (0, 1, False), (-6, 0, False), (-1, 5, False)]
)
def test_a_living_edge_is_waited_for_until_it_has_said_how_far_it_is(edge, heard_s, now_s, is_unheard):
    edge.heartbeat(10, 0)
    edge.plant()
    account = asked(edge.config)[edge.edge_id]
    assert account.heartbeat_at is not None
    began = account.heartbeat_at - timedelta(seconds=heard_s)
    assert unheard([account], began, began + timedelta(seconds=now_s)) is is_unheard


def test_verify_says_what_to_do_without_its_view(empty):
    result = tollhouse(empty, "verify")
    assert result.exit_code == 2
    assert result.stderr.endswith("has no completeness: run `tollhouse migrate` first.\n")


@pytest.mark.parametrize("since", ["yesterday", "5", "-3h", "3w", ""])
def test_verify_takes_no_time_that_is_none(migrated, since):
    result = tollhouse(migrated, "verify", "--since", since)
    assert result.exit_code == 2
    assert "Invalid value for '--since'" in result.stderr


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([3], "3"),
        ([1, 2, 3, 9, 11, 12], "1-3, 9, 11-12"),
        (list(range(1, 99, 2)), ", ".join(map(str, range(1, 41, 2))) + " and 29 more"),
    ],
)
def test_numbers_are_written_as_ranges(numbers, text):
    assert ranges(numbers) == text
