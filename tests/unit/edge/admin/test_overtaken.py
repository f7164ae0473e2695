"""What the admin API answers where another edge, or the state of the registry, came between."""

import asyncio
import json

import httpx
import pytest
from litestar import Litestar

from services.edge.admin.routes import admin_router
from tests.unit.edge.registry.shared_log import Edge, SharedLog

MASTER = "sk-master-0123456789"
KEY = "sk-0123456789012345678901"
GONE = (404, "It has just been deleted.", "not_found_error")
UNKNOWN = (404, "There is no such key.", "not_found_error", "key")
FULL = "The registry is full: it holds 3 records, with those deleted in the last 30 days, and takes no more."
MADE = (400, "There is one by now: it has just been made.", "bad_request_error")


class AdminEdge(Edge):
    """An edge with its admin API."""

    def __init__(self, log, **limits):
        super().__init__(log, **limits)
        self.app = Litestar([admin_router(self.registry, self.writer, lambda: MASTER)], logging_config=None)


def ask(edge, path, **body):
    """Ask one edge; it reads on only where it writes."""

    async def asked():
        transport = httpx.ASGITransport(app=edge.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
            return await client.post(path, json=body, headers={"x-api-key": MASTER})

    answer = asyncio.run(asked())
    return answer.status_code, answer.json()


def error(status, message, kind, param=None):
    return status, {"error": {"message": message, "type": kind, "param": param, "code": str(status)}}


@pytest.fixture
def edges():
    """Two edges that know a key, a team and a customer."""
    one = AdminEdge(SharedLog())
    ask(one, "/team/new", team_id="search")
    ask(one, "/customer/new", user_id="ada")
    ask(one, "/key/generate", key=KEY, key_alias="a")
    return one, AdminEdge(one.log)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/key/update", {"key": KEY, "tags": ["late"]}),
        ("/key/block", {"key": KEY}),
        ("/key/unblock", {"key": KEY}),
        ("/key/regenerate", {"key": KEY, "grace_period": "1h"}),
        (f"/key/{KEY}/regenerate", {}),
    ],
)
def test_a_change_of_a_key_that_another_edge_has_just_deleted_is_a_404_and_brings_nothing_back(
    path, body, edges
):
    one, other = edges
    assert ask(one, "/key/delete", keys=[KEY])[0] == 200
    assert ask(other, path, **body) == error(*GONE)
    one.catch_up()
    for edge in (one, other):
        assert ask(edge, "/key/block", key=KEY) == error(
            404, "There is no such key.", "not_found_error", "key"
        )


@pytest.mark.parametrize(
    ("deletion", "named", "path", "body"),
    [
        ("/team/delete", {"team_ids": ["search"]}, "/team/update", {"team_id": "search", "tags": ["late"]}),
        ("/team/delete", {"team_ids": ["search"]}, "/team/block", {"team_id": "search"}),
        ("/customer/delete", {"user_ids": ["ada"]}, "/customer/update", {"user_id": "ada", "alias": "late"}),
        ("/customer/delete", {"user_ids": ["ada"]}, "/customer/unblock", {"user_ids": ["ada"]}),
    ],
)
def test_a_change_of_a_team_or_a_customer_that_is_just_deleted_is_a_404_too(
    deletion, named, path, body, edges
):
    one, other = edges
    assert ask(one, deletion, **named)[0] == 200
    assert ask(other, path, **body) == error(*GONE)
    one.catch_up()
    gone = "team:search" if "team_ids" in named else "end_user:ada"
    assert [each.table.get(gone).deleted_at is not None for each in edges] == [True, True]


def test_two_edges_that_delete_the_same_both_say_that_it_is_deleted(edges):
    one, other = edges
    made = ask(one, "/key/generate", team_id="search")[1]
    other.catch_up()
    assert ask(one, "/team/delete", team_ids=["search"])[1] == {
        "deleted_teams": ["search"],
        "deleted_keys": [made["token"]],
    }
    assert ask(other, "/key/delete", keys=[made["key"], KEY])[0] == 200
    one.catch_up()
    assert [list(each.table.standing("virtual_key:")) for each in edges] == [[], []]


def test_a_team_that_two_edges_make_at_the_same_moment_is_the_first_ones(edges):
    one, other = edges
    assert ask(one, "/team/new", team_id="new", tags=["first"])[0] == 200
    assert ask(other, "/team/new", team_id="new", tags=["second"]) == error(*MADE)
    one.catch_up()
    assert [each.table.team("new").tags for each in edges] == [("first",), ("first",)]


def test_a_customer_that_is_made_on_one_edge_and_blocked_on_another_is_both(edges):
    one, other = edges
    assert ask(one, "/customer/new", user_id="eve", alias="Eve")[0] == 200
    (blocked,) = ask(other, "/customer/block", user_ids=["eve"])[1]["blocked_users"]
    assert (blocked["alias"], blocked["blocked"]) == ("Eve", True)


def test_two_keys_may_come_to_one_alias_on_two_edges_and_on_one_edge_they_may_not(edges):
    one, other = edges
    first, second = (ask(each, "/key/generate", key_alias="b")[1] for each in edges)
    one.catch_up()
    assert ask(one, "/key/generate", key_alias="b")[0] == 400
    assert [each.table.key_of_alias("b").virtual_key_id for each in edges] == [second["virtual_key_id"]] * 2
    assert ask(one, "/key/delete", key_aliases=["b"])[1] == {"deleted_keys": [second["token"]]}
    other.catch_up()
    assert [each.table.key_of_alias("b").virtual_key_id for each in edges] == [first["virtual_key_id"]] * 2


def test_a_full_registry_is_a_503_for_what_is_new_and_nothing_else(edges):
    edge = AdminEdge(edges[0].log, records_max=3)
    new = [("/key/generate", {}), ("/team/new", {}), ("/customer/new", {"user_id": "eve"})]
    for path, body in (*new, ("/customer/block", {"user_ids": ["ada", "eve"]})):
        assert ask(edge, path, **body) == error(503, FULL, "no_db_connection")
    changes = [
        ("/key/update", {"key": KEY, "tags": ["x"]}),
        ("/key/regenerate", {"key": KEY, "new_key": KEY + "2"}),
        ("/key/block", {"key": KEY + "2"}),
        ("/team/update", {"team_id": "search", "blocked": True}),
        ("/customer/block", {"user_ids": ["ada"]}),
        ("/customer/delete", {"user_ids": ["ada"]}),
        ("/customer/new", {"user_id": "ada"}),
        ("/key/delete", {"key_aliases": ["a"]}),
        ("/team/delete", {"team_ids": ["search"]}),
    ]
    assert [ask(edge, path, **body)[0] for path, body in changes] == [200] * len(changes)


def test_no_answer_of_these_tells_a_secret(edges):
    one, other = edges
    ask(one, "/key/delete", keys=[KEY])
    assert KEY not in json.dumps(ask(other, "/key/regenerate", key=KEY, new_key="sk-9" + KEY[4:]))
    assert all(KEY.encode() not in (value or b"") for _, value in one.log.records)
