"""A create call's body lies in files without names, comes back as it came or cut, and is never held whole."""

import asyncio
import gzip
import json
import signal
import subprocess
import sys
import tracemalloc

import pytest

from schemas.batches import BatchItem
from services.edge.batches.intake import Intake, NotTaken
from services.edge.batches.upload import (
    CHUNK_BYTES_MAX,
    NO_RULES,
    EndUserBlocked,
    ItemRules,
    Upload,
    UploadLimits,
    UploadTooLarge,
)
from services.edge.body_memory import BodyMemory
from services.edge.client import BodyTooSlow, ClientGone
from services.edge.config import BatchesConfig, EdgeConfig, SpoolConfig

MIB = 1024 * 1024
LIMITS = UploadLimits(value_bytes_max=MIB, plain_bytes_max=64 * MIB)
RUN_S_MAX = 60


def item(number, **params):
    return {"custom_id": f"i-{number}", "params": {"model": "m", **params}}


def uploaded(directory, body, coding="", chunk=1000, limits=LIMITS, rules=NO_RULES):
    upload = Upload(directory, coding, limits, rules)
    for at in range(0, len(body), chunk):
        upload.take(body[at : at + chunk])
    upload.end()
    return upload


@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("chunk", [7, 100_000])
def test_what_goes_up_is_what_came_less_what_was_cut_and_as_long_as_was_said(coding, chunk, tmp_path):
    requests = [item(n, litellm_metadata={"user": f"u{n}"}, system="x" * n) for n in range(300)]
    body = json.dumps({"litellm_metadata": {}, "requests": requests, "z": 1}).encode()
    upload = uploaded(tmp_path, gzip.compress(body) if coding else body, coding, chunk)
    up = b"".join(upload.pieces())
    assert json.loads(up) == {"requests": [item(n, system="x" * n) for n in range(300)], "z": 1}
    assert (len(up), upload.is_decoded) == (upload.up_bytes, bool(coding))
    own = [BatchItem(custom_id=f"i-{n}", end_user_id=f"u{n}") for n in range(300)]
    assert [each for chunk in upload.items() for each in chunk] == own
    assert list(tmp_path.iterdir()) == []
    upload.close()


def test_what_is_not_cut_goes_up_in_its_coding(tmp_path):
    body = gzip.compress(json.dumps({"requests": [item(1)]}).encode())
    upload = uploaded(tmp_path, body, "gzip")
    assert (b"".join(upload.pieces()), upload.up_bytes, upload.is_decoded) == (body, len(body), False)
    upload.close()


@pytest.mark.parametrize("coding", ["gzip", "unheard-of"])
def test_a_body_that_cannot_be_decoded_goes_up_unread(coding, tmp_path):
    body = json.dumps({"requests": [item(1, litellm_metadata={"user": "u"})]}).encode()
    upload = uploaded(tmp_path, body, coding)
    assert (b"".join(upload.pieces()), upload.view.is_read, upload.item_chunks) == (body, False, 0)
    upload.close()


def test_a_body_that_decodes_to_too_much_is_refused(tmp_path):
    with pytest.raises(UploadTooLarge):
        uploaded(tmp_path, gzip.compress(b"{" + b" " * MIB), "gzip", limits=UploadLimits(MIB, MIB))


def test_items_come_in_portions_that_fit_a_record(tmp_path):
    requests = [item(n, litellm_metadata={"note": "x" * 250, "n": n}) for n in range(5000)]
    upload = uploaded(tmp_path, json.dumps({"requests": requests}).encode(), chunk=MIB)
    chunks = list(upload.items())
    assert upload.item_chunks == len(chunks) > 2
    assert [each.metadata["n"] for chunk in chunks for each in chunk] == [str(n) for n in range(5000)]
    assert upload.file_bytes - upload.came_bytes <= len(chunks) * CHUNK_BYTES_MAX
    upload.close()


def test_end_users_are_not_kept_where_they_may_not_be(tmp_path):
    requests = [
        item(1, litellm_metadata={"user": "u", "tags": ["t"]}),
        item(2, metadata={"user_id": "u"}),
    ]
    limits = LIMITS._replace(has_end_users=False)
    upload = uploaded(tmp_path, json.dumps({"requests": requests}).encode(), limits=limits)
    assert list(upload.items()) == [(BatchItem(custom_id="i-1", tags=("t",)),)]
    upload.close()


def test_an_items_user_id_is_its_end_user_as_it_is_a_messages(tmp_path):
    upload = uploaded(tmp_path, json.dumps({"requests": [item(1, metadata={"user_id": "u"})]}).encode())
    assert list(upload.items()) == [(BatchItem(custom_id="i-1", end_user_id="u"),)]
    assert not upload.is_changed
    upload.close()


@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("chunk", [7, 100_000])
def test_every_item_that_asks_by_an_alias_goes_up_with_its_model(coding, chunk, tmp_path):
    def requests(models, **params):
        return [item(n, **params, model=models[n % 3], system="x" * n) for n in range(300)]

    rules = ItemRules({"fast": "claude-haiku-4-5", "m": "n"})
    body = json.dumps({"requests": requests(("fast", "m", "opus"), litellm_metadata={})}).encode()
    upload = uploaded(tmp_path, gzip.compress(body) if coding else body, coding, chunk, rules=rules)
    up = b"".join(upload.pieces())
    assert up == json.dumps({"requests": requests(("claude-haiku-4-5", "n", "opus"))}).encode()
    assert (len(up), upload.is_decoded) == (upload.up_bytes, bool(coding))
    assert upload.view.models_asked_for() == ("claude-haiku-4-5", "n", "opus")
    assert upload.held_bytes == 24 * 500  # 300 cuts and 200 models
    upload.close()


CLAUDE_CODE = json.dumps({"device_id": "d", "account_uuid": "mallory", "session_id": "s"})


@pytest.mark.parametrize("has_end_users", [True, False])
@pytest.mark.parametrize(
    "params",
    [
        {"litellm_metadata": {"user": "mallory"}},
        {"metadata": {"user_id": "mallory"}},
        {"metadata": {"user_id": CLAUDE_CODE}},
        {"litellm_metadata": {"user": "mallory"}, "metadata": {"user_id": "ada"}},
    ],
)
def test_an_item_for_an_end_user_who_is_blocked_is_named(params, has_end_users, tmp_path):
    requests = [item(n, litellm_metadata={"user": f"u{n}"}) for n in range(17)]
    body = json.dumps({"requests": [*requests, item(17, **params), item(18)]}).encode()
    limits = LIMITS._replace(has_end_users=has_end_users)
    asked = []

    def is_blocked(end_user_id):
        asked.append(end_user_id)
        return end_user_id == "mallory"

    with pytest.raises(EndUserBlocked, match=r"^requests\.17$"):
        uploaded(tmp_path, body, limits=limits, rules=ItemRules(is_blocked=is_blocked))
    assert asked == [*(f"u{n}" for n in range(17)), "mallory"]


def test_items_that_name_nobody_are_not_asked_about(tmp_path):
    body = json.dumps({"requests": [item(1), item(2, litellm_metadata={"tags": ["t"]}), "mallory", None]})
    uploaded(tmp_path, body.encode(), rules=ItemRules(is_blocked=lambda _: True)).close()


def config_for(directory, **settings):
    return EdgeConfig(spool=SpoolConfig(directory=str(directory)), **settings)


def messages(pieces):
    """An ASGI receive channel that gives these pieces, then waits for ever."""
    iterator = iter(pieces)
    following = next(iterator, None)

    async def receive():
        nonlocal following
        piece, following = following, next(iterator, None)
        if piece is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": piece, "more_body": following is not None}

    return receive


def test_a_long_body_takes_no_more_memory_than_a_short_one(tmp_path):
    def pieces(count):
        yield b'{"requests":[' + json.dumps(item(0)).encode()
        for number in range(1, count):
            own = {"user": f"u{number}"} if number % 3 else {}
            yield b"," + json.dumps(item(number, system="x" * 20_000, litellm_metadata=own)).encode()
        yield b"]}"

    async def scene(count):
        intake = Intake(config_for(tmp_path))
        memory, sent = BodyMemory(512 * MIB), 0
        with await intake.take(messages(pieces(count)), [], config_for(tmp_path), memory.lease()) as body:
            async for piece in body:
                sent += len(piece)
            assert (sent, body.upload.view.requests) == (body.upload.up_bytes, count)
        assert memory.held == body.upload.held_bytes == 24 * (count - 1)  # a cut in every item but the first
        assert intake.room.held == 0
        return sent

    peaks = []
    for count in (100, 1300):
        tracemalloc.start()
        sent = asyncio.run(asyncio.wait_for(scene(count), RUN_S_MAX))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert sent > 25 * 1000 * 1000
    assert peaks[1] < peaks[0] + 2 * MIB


@pytest.mark.parametrize(
    ("error", "channel"),
    [(ClientGone, [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])],
)
def test_a_client_that_leaves_gives_everything_back(error, channel, tmp_path):
    async def scene():
        intake, lease = Intake(config_for(tmp_path)), BodyMemory(MIB).lease()
        coming = iter(channel)

        async def receive():
            return next(coming)

        with pytest.raises(error):
            await intake.take(receive, [], config_for(tmp_path), lease)
        assert intake.room.held == 0

    asyncio.run(asyncio.wait_for(scene(), RUN_S_MAX))


def test_a_client_that_is_silent_is_too_slow(tmp_path):
    async def scene():
        intake, lease = Intake(config_for(tmp_path), silence_s_max=0.01), BodyMemory(MIB).lease()
        with pytest.raises(BodyTooSlow):
            await intake.take(messages([]), [], config_for(tmp_path), lease)
        assert intake.room.held == 0

    asyncio.run(asyncio.wait_for(scene(), RUN_S_MAX))


def test_a_directory_that_takes_no_file_is_a_busy_gateway_and_not_a_failed_one(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    config = config_for(tmp_path, batches=BatchesConfig(directory=str(blocked / "below")))

    async def scene():
        with pytest.raises(NotTaken, match="batch_files"):
            await Intake(config).take(messages([b"{}"]), [], config, BodyMemory(MIB).lease())

    asyncio.run(asyncio.wait_for(scene(), RUN_S_MAX))


KILLED = """
import asyncio, sys
from services.edge.batches.intake import Intake
from services.edge.body_memory import BodyMemory
from services.edge.config import EdgeConfig, SpoolConfig
config = EdgeConfig(spool=SpoolConfig(directory=sys.argv[1]))
intake = Intake(config)
async def receive():
    if intake.room.held > 5_000_000:
        print("held", flush=True)
        await asyncio.Event().wait()
    return {"type": "http.request", "body": b" " * 300_000, "more_body": True}
asyncio.run(intake.take(receive, [], config, BodyMemory(1 << 30).lease()))
"""


def test_a_process_that_is_killed_within_an_upload_leaves_no_file(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert list(tmp_path.iterdir()) == []
        process.send_signal(signal.SIGKILL)
        process.wait(RUN_S_MAX)
    assert list(tmp_path.iterdir()) == []
