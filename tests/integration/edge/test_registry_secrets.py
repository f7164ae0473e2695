"""A secret stands in the answer that made it and nowhere else, whoever chose it and however it is changed."""

import asyncio
import http.server
import json
import threading

import pytest
from click.testing import CliRunner

from schemas import topics
from services.cli.commands import main
from services.edge.registry.secrets import digest_of
from tests.integration.edge.registry_stack import AS_MASTER, GATEWAY_KEY, MASTER, asked, sent, stack, told
from tests.integration.runtime.clients import read_all

TEST_S_MAX = 90.0
# Every secret that the test chooses has this in it.
MARK = "planted"
OWN = [f"sk-{MARK}-{number}-0123456789012345" for number in range(8)]


def tollhouse(url, *arguments, given=""):
    environ = {"TOLLHOUSE_URL": url, "TOLLHOUSE_MASTER_KEY": MASTER}
    done = CliRunner().invoke(main, arguments, input=given, env=environ)
    return done.exit_code, done.stdout + done.stderr


async def used(client, *keys):
    """Say how a message with each key is answered; none of the answers may repeat a key."""
    answers = [await sent(client, key) for key in keys]
    assert [each for each in answers if MARK in each.text + repr(each.headers)] == []
    return [each.status_code for each in answers]


async def replaced(client):
    """Make keys of an operator's own choice, and replace their secrets in every way that there is."""
    made = await told(client, "/key/generate", key=OWN[0], key_alias="own")
    again = await told(client, "/key/regenerate", key=OWN[0], new_key=OWN[1], grace_period="1h")
    assert [made["key"], again["key"]] == OWN[:2]
    assert await used(client, OWN[0], OWN[1]) == [200, 200]
    third = await told(client, f"/key/{OWN[1]}/regenerate", new_key=OWN[2], grace_period="30s")
    assert third["key"] == OWN[2]
    assert await used(client, *OWN[:3], OWN[3]) == [200, 200, 200, 401]
    minted = await told(client, f"/key/{OWN[2]}/regenerate")
    assert await used(client, OWN[0], OWN[1], OWN[2], minted["key"]) == [401, 401, 401, 200]
    back = await told(client, "/key/regenerate", key=minted["key"], new_key=OWN[0], grace_period="1h")
    assert await used(client, OWN[0], minted["key"]) == [200, 200]
    every = (made, again, third, minted, back)
    assert {each["virtual_key_id"] for each in every} == {made["virtual_key_id"]}
    return minted["key"]


async def refused(client):
    """Send secrets where they are of no use; no answer repeats one."""
    wrong = [
        ("/key/generate", {"key": OWN[0]}),
        ("/key/generate", {"key": OWN[3], "guardrails": []}),
        ("/key/generate", {"key": [OWN[3]]}),
        ("/key/generate", {"key": OWN[3], "duration": OWN[3]}),
        ("/key/generate", {"key": f"{MARK} without a prefix"}),
        ("/key/generate", {"key": OWN[3], "team_id": OWN[3]}),
        ("/key/update", {"key": OWN[3]}),
        ("/key/delete", {"keys": [OWN[3]]}),
        ("/key/regenerate", {"key": OWN[0], "new_key": OWN[0]}),
        ("/key/regenerate", {"key": OWN[0], "new_key": OWN[3], "grace_period": "for ever"}),
        (f"/key/{OWN[3]}/regenerate", {}),
        (f"/key/{OWN[0]}/regenerate", {"new_key": 1}),
        (f"/key/{OWN[0]}/regenerated", {}),
    ]
    for path, body in wrong:
        answer = await client.post(path, headers=AS_MASTER, json=body)
        assert 400 <= answer.status_code < 500, path
        assert MARK not in answer.text
    await asked(client, "/key/info", 404, key=OWN[3])
    shown = [
        await asked(client, "/key/info", key=OWN[0]),
        await asked(client, "/key/list", return_full_object="true"),
        await told(client, "/key/block", key=OWN[0]),
        await told(client, "/key/unblock", key=OWN[0]),
        await told(client, "/key/update", key=OWN[0], tags=["x"]),
    ]
    assert MARK not in json.dumps(shown)


def commanded(url):
    """Do the same by command; the output has the one secret that is new."""
    code, out = tollhouse(url, "keys", "rotate", "-", "--grace-period", "1h", "--json", given=f"{OWN[0]}\n")
    new = json.loads(out)["key"]
    assert (code, MARK in out) == (0, False)
    for arguments in (("show", "-"), ("show", "-", "--json"), ("block", "-"), ("unblock", "-")):
        code, out = tollhouse(url, "keys", *arguments, given=f"{OWN[0]}\n")
        assert (code, MARK in out, new in out) == (0, False, False)
    code, out = tollhouse(url, "keys", "show", OWN[3])
    assert (code, out) == (2, "tollhouse: There is no such key.\n")
    code, out = tollhouse(url, "keys", "delete", "-", given=f"{new}\n")
    assert (code, new in out, MARK in out) == (0, False, False)
    return new


def test_neither_records_nor_events_nor_logs_nor_files_hold_a_secret_of_any_kind(tmp_path, capfd):
    async def scenario():
        async with stack(tmp_path) as ((client,), _, kafka):
            secrets = [MASTER, GATEWAY_KEY, await replaced(client)]
            await refused(client)
            secrets.append(await asyncio.to_thread(commanded, str(client.base_url)))
            assert await used(client, OWN[0], OWN[1]) == [401, 401]
            await asyncio.to_thread(_hold_none, tmp_path, capfd, secrets)
            for topic in topics.all_topics():
                for record in await read_all(kafka, topic.name, topic.partitions):
                    written = repr((record.key, record.value, record.headers))
                    assert [each for each in (MARK, *secrets) if each in written] == []
        # Once more, with what an edge writes at its end.
        _hold_none(tmp_path, capfd, secrets)

    async def bounded():
        async with asyncio.timeout(TEST_S_MAX):
            await scenario()

    asyncio.run(bounded())


def _hold_none(directory, capfd, secrets):
    logged = "".join(capfd.readouterr()).encode()
    files = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert len(files) > 1
    for where, written in {"the log": logged, **files}.items():
        assert [each for each in (MARK, *secrets) if each.encode() in written] == [], where


@pytest.fixture
def listener():
    """A server that notes what it is sent, and knows nothing."""
    heard = []

    class Listening(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            heard.append(f"{self.path} {body.decode()}")
            self.send_response(404)
            self.send_header("content-length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_):
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listening) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", heard
        server.shutdown()
        thread.join()


def test_the_commands_send_the_sha256_of_a_secret_and_never_the_secret(listener):
    url, heard = listener
    for command in ("show", "block", "unblock", "rotate", "delete"):
        for key, given in (("-", f"{OWN[0]}\n"), (OWN[0], "")):
            tollhouse(url, "keys", command, key, given=given)
    tollhouse(url, "keys", "update", "-", "--tag", "a", given=f"{OWN[0]}\n")
    assert len(heard) == 11
    assert [each for each in heard if MARK in each or digest_of(OWN[0]) not in each] == []
