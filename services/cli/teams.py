"""`tollhouse teams`: makes teams and says what their keys may do, through the admin API of an edge."""

from typing import cast

import click
import msgspec

from services.cli.admin import ask, delete_all, read, show_table, tell, with_json, with_url
from services.cli.fields import (
    LIMIT_OPTIONS,
    METADATA,
    MODELS,
    body_of,
    print_answer,
    show_record,
    unset_option,
)
from services.cli.keys import COLUMNS as KEY_COLUMNS
from services.edge.registry.secrets import KEY_PREFIX, name_of

COLUMNS = ("team_id", "team_alias", "models", "tags", "blocked", "created_at")

# Behind what is typed stands the admin API's name of the field, where that is another.
_OPTIONS = (
    click.Option(("--alias", "team_alias"), help="A name for people."),
    MODELS,
    click.Option(("--tag", "tags"), multiple=True, help="A tag on everything that its keys use."),
    METADATA,
    *LIMIT_OPTIONS,
)


@click.group()
def teams() -> None:
    """Make, change and delete teams of virtual keys."""


@teams.command()
@click.argument("team", required=False)
@with_url
@with_json
def create(url: str, as_json: bool, team: str | None, **fields: object) -> None:
    """Make a team with the id TEAM, or with a new one."""
    named = {"team_id": team} if team else {}
    print_answer(tell(url, "/team/new", {**named, **body_of(_OPTIONS, fields)}), as_json)


@teams.command("list")
@with_url
@with_json
def list_(url: str, as_json: bool) -> None:
    """List every team, the newest first."""
    answer = ask(url, "/team/list", {})
    if as_json:
        click.echo(answer)
        return
    show_table(_listed(answer), COLUMNS)


@teams.command("show")
@click.argument("team")
@with_url
@with_json
def show_(url: str, as_json: bool, team: str) -> None:
    """Print what is known of TEAM, and its keys."""
    answer = ask(url, "/team/info", {"team_id": team})
    if as_json:
        click.echo(answer)
        return
    members = read(answer)
    show_record(cast("dict[str, object]", members["team_info"]))
    click.echo()
    show_table(cast("list[dict[str, object]]", members["keys"]), KEY_COLUMNS)


@teams.command()
@click.argument("team")
@with_url
@with_json
def update(url: str, as_json: bool, team: str, unset: tuple[str, ...], **fields: object) -> None:
    """Change TEAM: what is given takes the place of what was, the rest stays."""
    body = body_of(_OPTIONS, fields, unset)
    if not body:
        raise click.UsageError("nothing to change: give at least one option")
    answer = tell(url, "/team/update", {"team_id": team, **body})
    if as_json:
        click.echo(answer)
        return
    show_record(cast("dict[str, object]", read(answer)["data"]))


@teams.command()
@click.argument("team")
@with_url
@with_json
def block(url: str, as_json: bool, team: str) -> None:
    """Refuse every key of TEAM from now on."""
    print_answer(tell(url, "/team/block", {"team_id": team}), as_json)


@teams.command()
@click.argument("team")
@with_url
@with_json
def unblock(url: str, as_json: bool, team: str) -> None:
    """Let the keys of TEAM in again."""
    print_answer(tell(url, "/team/unblock", {"team_id": team}), as_json)


@teams.command()
@click.argument("named", metavar="TEAM...", nargs=-1, required=True)
@with_url
@with_json
def delete(url: str, as_json: bool, named: tuple[str, ...]) -> None:
    """Delete teams and their keys, all of those named or none; what they used stays booked."""

    def absent() -> list[str]:
        known = {team["team_id"] for team in _listed(ask(url, "/team/list", {}))}
        return [_shown(name) for name in dict.fromkeys(named) if name not in known]

    answer = delete_all(url, "/team/delete", {"team_ids": list(named)}, absent)
    if as_json:
        click.echo(answer)
        return
    members = read(answer)
    for team_id in cast("list[str]", members["deleted_teams"]):
        click.echo(f"deleted team {team_id}")
    for token in cast("list[str]", members["deleted_keys"]):
        click.echo(f"deleted key {token}")


def _listed(answer: bytes) -> list[dict[str, object]]:
    return msgspec.json.decode(answer, type=list[dict[str, object]])


def _shown(name: str) -> str:
    """Give what may be printed of a name: a key's secret may have been typed in its place."""
    return name_of(name) if name.startswith(KEY_PREFIX) else name or "''"


for _command in (create, update):
    _command.params.extend(_OPTIONS)
update.params.append(unset_option(_OPTIONS))
