"""The routes of teams, as LiteLLM has them."""

import asyncio
import uuid
from collections.abc import Container, Iterable
from datetime import UTC, datetime
from typing import cast

from litestar import get, post
from litestar.params import FromQuery

from schemas.keys import Team, VirtualKey
from services.edge.admin.answers import (
    TeamInfo,
    TeamsDeleted,
    TeamShown,
    TeamUpdated,
    key_shown,
    team_shown,
    token_of,
)
from services.edge.admin.changes import WHO, bounded, changed_team, deleted, touched
from services.edge.admin.description import ClosedBody, refusals
from services.edge.admin.desk import NAMED_MAX, Desk, DeskType
from services.edge.admin.errors import AdminRefused, not_found
from services.edge.admin.fields import NamedTeam, NamedTeams, NewTeam, SharedFields, UpdateTeam
from services.edge.admin.keys import deletion
from services.edge.registry.table import KEY, TEAM, Entry
from services.edge.registry.writer import alteration, creation, removal


@post("/team/new", status_code=200, opt={"body": NewTeam}, responses=refusals(413))
async def new_team(data: ClosedBody[NewTeam], desk: Desk) -> TeamShown:
    """Make a team."""
    now = datetime.now(UTC)
    team_id = bounded(data.team_id or str(uuid.uuid4()), "team_id")
    # A deleted one counts too: its keys' history must not come to belong to another.
    if desk.registry.table.get(TEAM + team_id) is not None:
        raise AdminRefused("team_id: there is such a team, or there was one in the last 30 days.", "team_id")
    blank = Team(team_id=team_id, revision=1, created_at=now, updated_at=now, created_by=WHO, updated_by=WHO)
    team = changed_team(blank, data)
    await desk.writer.write([creation(team)])
    return team_shown(team)


@get("/team/info", opt={"query": ("team_id",)}, responses=refusals(404))
async def team_info(team_id: FromQuery[str], desk: Desk) -> TeamInfo:
    """Show a team and its keys."""
    team = _named(desk, team_id)
    return TeamInfo(
        team_id=team_id,
        team_info=team_shown(team),
        keys=[key_shown(key) for key in await _keys_of(desk, (team_id,))],
    )


@post("/team/update", status_code=200, opt={"body": UpdateTeam}, responses=refusals(404, 413))
async def update_team(data: ClosedBody[UpdateTeam], desk: Desk) -> TeamUpdated:
    """Change a team; what is left out stays as it is, and null takes away."""
    team = await _changed(desk, data.team_id, data)
    return TeamUpdated(team_id=team.team_id, data=team_shown(team))


@post("/team/block", status_code=200, opt={"body": NamedTeam}, responses=refusals(404, 413))
async def block_team(data: ClosedBody[NamedTeam], desk: Desk) -> TeamShown:
    """Refuse every key of a team from now on."""
    return team_shown(await _changed(desk, data.team_id, SharedFields(blocked=True)))


@post("/team/unblock", status_code=200, opt={"body": NamedTeam}, responses=refusals(404, 413))
async def unblock_team(data: ClosedBody[NamedTeam], desk: Desk) -> TeamShown:
    """Let the keys of a blocked team in again."""
    return team_shown(await _changed(desk, data.team_id, SharedFields(blocked=False)))


@post("/team/delete", status_code=200, opt={"body": NamedTeams}, responses=refusals(404, 413))
async def delete_teams(data: ClosedBody[NamedTeams], desk: Desk) -> TeamsDeleted:
    """Delete teams and their keys, all of those named or none."""
    if not 1 <= len(data.team_ids) <= NAMED_MAX:
        raise AdminRefused(f"team_ids: names 1 to {NAMED_MAX} teams.", "team_ids")
    teams = [_named(desk, team_id) for team_id in dict.fromkeys(data.team_ids)]
    keys = await _keys_of(desk, {team.team_id for team in teams})
    now = datetime.now(UTC)
    gone = [removal(team, lambda standing: deleted(standing, now)) for team in teams]
    await desk.writer.write([*gone, *(deletion(key) for key in keys)])
    return TeamsDeleted(
        deleted_teams=[team.team_id for team in teams], deleted_keys=[token_of(key) for key in keys]
    )


@get("/team/list", opt={"query": ()}, responses=refusals())
async def list_teams(desk: Desk) -> list[TeamShown]:
    """List every team, the newest first."""
    teams = [each for each in desk.registry.table.standing(TEAM) if isinstance(each, Team)]
    return [team_shown(team) for team in sorted(teams, key=lambda team: team.created_at, reverse=True)]


async def _changed(desk: DeskType, team_id: str, fields: SharedFields) -> Team:
    now = datetime.now(UTC)
    team = _named(desk, team_id)
    change = alteration(team, lambda standing: touched(changed_team(standing, fields), now))
    (entry,) = await desk.writer.write([change])
    return cast("Team", entry)


def _named(desk: DeskType, team_id: str) -> Team:
    team = desk.registry.table.team(team_id)
    if team is None:
        raise not_found("team", "team_id")
    return team


async def _keys_of(desk: DeskType, team_ids: Container[str]) -> list[VirtualKey]:
    entries = desk.registry.table.standing(KEY)
    return await asyncio.to_thread(_of_teams, entries, team_ids)


def _of_teams(entries: Iterable[Entry], team_ids: Container[str]) -> list[VirtualKey]:
    return [each for each in entries if isinstance(each, VirtualKey) and each.team_id in team_ids]


ROUTES = (new_team, team_info, update_team, block_team, unblock_team, delete_teams, list_teams)
