"""The table says what the last record of each key says, however it came to it."""

import sys
import threading
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from schemas import codec
from schemas.keys import EndUser, KeyHash, KeyRecord, record_key
from services.edge.admin.changes import deleted
from services.edge.registry.table import KeyTable
from tests.unit.edge.registry.shared_log import Edge, SharedLog, key, rebuilt, said

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECRETS = ("d1", "d2", "d3")


def appended(log, entry):
    event = KeyRecord(change_id="", edge_id="", at=NOW, record=entry)
    log.records.append((record_key(entry), codec.encode(event)))


def owned(key_id, alias="", *secrets):
    return key(key_id, NOW, key_alias=alias, hashes=tuple(KeyHash(sha256=each) for each in secrets))


def test_of_two_keys_with_one_alias_the_alias_names_the_last_written_and_then_the_other():
    log = SharedLog()
    for each in (owned("vk_1", "a", "d1"), owned("vk_2", "a", "d2")):
        appended(log, each)
    edge = Edge(log)
    assert edge.table.key_of_alias("a").virtual_key_id == "vk_2"
    assert [edge.table.key_of_digest(each).virtual_key_id for each in ("d1", "d2")] == ["vk_1", "vk_2"]
    appended(log, owned("vk_1", "a", "d1"))
    edge.catch_up()
    assert edge.table.key_of_alias("a").virtual_key_id == "vk_1"
    appended(log, deleted(owned("vk_1", "a"), NOW))
    edge.catch_up()
    assert (edge.table.key_of_alias("a").virtual_key_id, edge.table.aliases()) == ("vk_2", ["a"])
    appended(log, owned("vk_2", "b", "d2"))
    edge.catch_up()
    assert (edge.table.key_of_alias("a"), edge.table.aliases()) == (None, ["b"])


def test_a_secret_that_two_keys_were_given_is_the_last_written_ones():
    log = SharedLog()
    for each in (owned("vk_1", "", "d1"), owned("vk_2", "", "d1"), deleted(owned("vk_2"), NOW)):
        appended(log, each)
    edge = Edge(log)
    assert edge.table.key_of_digest("d1").virtual_key_id == "vk_1"
    log.records.append(("virtual_key:vk_1", None))
    edge.catch_up()
    assert edge.table.key_of_digest("d1") is None


KEYS = st.builds(
    owned,
    st.sampled_from(("vk_1", "vk_2", "vk_3")),
    st.sampled_from(("", "a", "b")),
    st.sampled_from(SECRETS),
    st.sampled_from(SECRETS),
)
WRITES = st.one_of(
    KEYS, KEYS.map(lambda each: deleted(each, NOW)), st.sampled_from(("virtual_key:vk_1", "virtual_key:vk_2"))
)


@given(st.lists(WRITES, max_size=12))
def test_an_edge_that_read_every_record_says_what_one_says_that_read_what_kafka_has_kept(writes):
    log = SharedLog()
    followed = Edge(log)
    for each in writes:
        if isinstance(each, str):
            log.records.append((each, None))
        else:
            appended(log, each)
        followed.catch_up()
    assert said(followed, SECRETS) == said(rebuilt(log), SECRETS)
    assert len(followed.table) == len(rebuilt(log).table)


def test_while_a_record_is_replaced_no_other_thread_finds_none():
    """A batch's items are checked beside the event loop, and a blocked end user must not slip through."""
    stamps = {"revision": 1, "created_at": NOW, "updated_at": NOW}
    table, blocked = KeyTable(), EndUser(end_user_id="u", blocked=True, **stamps)
    table.put(blocked)
    is_over = threading.Event()

    def write():
        while not is_over.is_set():
            table.put(blocked)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(table.end_user("u") == blocked for _ in range(20_000))
    finally:
        is_over.set()
        writer.join()
        sys.setswitchinterval(interval)
