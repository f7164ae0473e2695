"""What a key and its team add to every event."""

from datetime import UTC, datetime

from schemas.attribution import Attribution
from schemas.keys import Team, VirtualKey
from services.edge.attribution import METADATA_KEYS_MAX, TAGS_MAX
from services.edge.registry.booking import booked
from services.edge.registry.rights import Grant

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
STAMPS = {"revision": 1, "created_at": NOW, "updated_at": NOW}


def test_tags_of_key_and_team_go_first_and_the_operators_metadata_wins():
    key = VirtualKey(
        virtual_key_id="vk_1",
        **STAMPS,
        key_alias="search",
        team_id="t",
        tags=("key", "both"),
        metadata={"owner": "key", "place": "key"},
    )
    team = Team(team_id="t", **STAMPS, tags=("both", "team"), metadata={"owner": "team", "centre": "team"})
    asked = Attribution(
        virtual_key_id="vk_1", tags=("mine", "key"), metadata={"place": "mine", "job": "mine"}
    )
    assert booked(asked, Grant(key, team)) == Attribution(
        virtual_key_id="vk_1",
        key_alias="search",
        team_id="t",
        tags=("key", "both", "team", "mine"),
        metadata={"owner": "key", "centre": "team", "place": "key", "job": "mine"},
    )


def test_without_a_virtual_key_nothing_is_added():
    asked = Attribution(virtual_key_id="master", tags=("mine",))
    assert booked(asked, None) is asked


def test_a_caller_cannot_crowd_out_what_the_operator_said():
    key = VirtualKey(virtual_key_id="vk_1", **STAMPS, tags=("ours",), metadata={"ours": "1"})
    many = Attribution(
        virtual_key_id="vk_1",
        tags=tuple(f"t{n}" for n in range(TAGS_MAX)),
        metadata={f"m{n}": "" for n in range(METADATA_KEYS_MAX)},
    )
    told = booked(many, Grant(key))
    assert (told.tags[0], len(told.tags)) == ("ours", TAGS_MAX)
    assert (next(iter(told.metadata)), len(told.metadata)) == ("ours", METADATA_KEYS_MAX)
