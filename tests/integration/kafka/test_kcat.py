"""kcat, the tool that people look into a broker with, on the same broker."""

import json
import shutil
import subprocess

import pytest

from tests.integration.kafka.clients import create, read_to_end, run, send_numbers

KCAT = shutil.which("kcat")
KCAT_S_MAX = 30

pytestmark = pytest.mark.skipif(KCAT is None, reason="kcat is not installed (Debian package kcat)")


@pytest.fixture
def kcat(bootstrap: str):
    """Run kcat on the broker and give what it prints."""

    def run_kcat(*arguments: str, given: bytes = b"") -> bytes:
        done = subprocess.run(
            [KCAT, "-b", bootstrap, "-q", *arguments],
            input=given,
            capture_output=True,
            timeout=KCAT_S_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return run_kcat


def test_it_lists_topics_and_partitions(bootstrap, topic, kcat):
    run(create(bootstrap, topic, partitions=3))
    found = json.loads(kcat("-L", "-J", "-t", topic))
    (described,) = found["topics"]
    assert (described["topic"], len(described["partitions"])) == (topic, 3)
    assert f"127.0.0.1:{bootstrap.rsplit(':', 1)[1]}" in [broker["name"] for broker in found["brokers"]]


def test_what_it_writes_is_read_and_the_other_way_round(bootstrap, topic, kcat):
    async def test():
        await create(bootstrap, topic)
        kcat("-P", "-t", topic, "-K:", "-H", "h=1", "-z", "zstd", given=b"k1:v1\nk2:v2\n")
        found = await read_to_end(bootstrap, topic)
        assert [(one.key, one.value, one.headers) for one in found] == [
            (b"k1", b"v1", (("h", b"1"),)),
            (b"k2", b"v2", (("h", b"1"),)),
        ]

    run(test())
    assert kcat("-C", "-t", topic, "-e", "-f", "%o %k %s %h\n") == b"0 k1 v1 h=1\n1 k2 v2 h=1\n"


def test_it_writes_tombstones(bootstrap, topic, kcat):
    run(create(bootstrap, topic, cleanup_policy="compact"))
    kcat("-P", "-t", topic, "-K:", "-Z", given=b"k:v\nk:\n")
    assert kcat("-C", "-t", topic, "-e", "-f", "%k %S\n") == b"k 1\nk -1\n"


def test_it_reads_from_an_offset_from_the_end_and_from_a_time(bootstrap, topic, kcat):
    stamps = []

    async def test():
        await create(bootstrap, topic)
        await send_numbers(bootstrap, topic, 20)
        stamps.append((await read_to_end(bootstrap, topic))[0].timestamp)

    run(test())
    assert kcat("-C", "-t", topic, "-o", "17", "-e", "-f", "%o ") == b"17 18 19 "
    assert kcat("-C", "-t", topic, "-p", "0", "-o", "-2", "-e", "-f", "%o ") == b"18 19 "
    assert kcat("-C", "-t", topic, "-o", f"s@{stamps[0]}", "-c", "1", "-f", "%o ") == b"0 "
    assert kcat("-Q", "-t", f"{topic}:0:-1").strip() == f"{topic} [0] offset 20".encode()


def test_it_reads_as_a_member_of_a_group(bootstrap, topic, group, kcat):
    run(create(bootstrap, topic, partitions=2))
    run(send_numbers(bootstrap, topic, 10, partitions=2))
    options = ("-X", "auto.offset.reset=earliest", "-f", "%s\n", "-c", "10")
    found = kcat("-G", group, topic, *options)
    assert sorted(int(line) for line in found.split()) == list(range(10))
