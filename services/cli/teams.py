"""`tollhouse teams`: makes teams and says what their keys may do, through the admin API of an edge."""

from typing import Unpack, cast

import click
import msgspec

from services.cli.admin import ask, read, show, show_table, tell, with_json, with_url
from services.cli.keys import COLUMNS as KEY_COLUMNS
from services.cli.keys import pair
from services.cli.limits import LIMIT_OPTIONS, LimitFields

COLUMNS = ("team_id", "team_alias", "models", "tags", "blocked", "created_at")


class Fields(LimitFields, total=False):
    """What the options say of a team; None, or nothing, where an option was not given."""

    alias: str | None
    models: tuple[str, ...]
    tags: tuple[str, ...]
    metadata: tuple[str, ...]


_OPTIONS = (
    click.option("--alias", help="A name for people."),
    click.option("--model", "models", multiple=True, help="A model, or a pattern such as 'claude-haiku-*'."),
    click.option("--tag", "tags", multiple=True, help="A tag on everything that its keys use."),
    click.option("--metadata", multiple=True, metavar="NAME=VALUE", help="The same as a name and a value."),
    *LIMIT_OPTIONS,
)


@click.group()
def teams() -> None:
    """Make, change and delete teams of virtual keys."""


@teams.command()
@click.argument("team", required=False)
@with_url
@with_json
def create(url: str, as_json: bool, team: str | None, **fields: Unpack[Fields]) -> None:
    """Make a team with the id TEAM, or with a new one."""
    named = {"team_id": team} if team else {}
    _print(tell(url, "/team/new", {**named, **_body(fields)}), as_json)


@teams.command("list")
@with_url
@with_json
def list_(url: str, as_json: bool) -> None:
    """List every team, the newest first."""
    answer = ask(url, "/team/list", {})
    if as_json:
        click.echo(answer)
        return
    show_table(msgspec.json.decode(answer, type=list[dict[str, object]]), COLUMNS)


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
    show(cast("dict[str, object]", members["team_info"]))
    click.echo()
    show_table(cast("list[dict[str, object]]", members["keys"]), KEY_COLUMNS)


@teams.command()
@click.argument("team")
@with_url
@with_json
def update(url: str, as_json: bool, team: str, **fields: Unpack[Fields]) -> None:
    """Change TEAM: what is given takes the place of what was, the rest stays."""
    body = _body(fields)
    if not body:
        raise click.UsageError("nothing to change: give at least one option")
    answer = tell(url, "/team/update", {"team_id": team, **body})
    if as_json:
        click.echo(answer)
        return
    show(cast("dict[str, object]", read(answer)["data"]))


@teams.command()
@click.argument("team")
@with_url
@with_json
def block(url: str, as_json: bool, team: str) -> None:
    """Refuse every key of TEAM from now on."""
    _print(tell(url, "/team/block", {"team_id": team}), as_json)


@teams.command()
@click.argument("team")
@with_url
@with_json
def unblock(url: str, as_json: bool, team: str) -> None:
    """Let the keys of TEAM in again."""
    _print(tell(url, "/team/unblock", {"team_id": team}), as_json)


@teams.command()
@click.argument("named", metavar="TEAM...", nargs=-1, required=True)
@with_url
@with_json
def delete(url: str, as_json: bool, named: tuple[str, ...]) -> None:
    """Delete teams and their keys, all of those named or none; what they used stays booked."""
    answer = tell(url, "/team/delete", {"team_ids": list(named)})
    if as_json:
        click.echo(answer)
        return
    members = read(answer)
    for team_id in cast("list[str]", members["deleted_teams"]):
        click.echo(f"deleted team {team_id}")
    for token in cast("list[str]", members["deleted_keys"]):
        click.echo(f"deleted key {token}")


def _body(fields: Fields) -> dict[str, object]:
    names = {"alias": "team_alias"}
    given = {names.get(name, name): value for name, value in fields.items() if value not in (None, ())}
    if "metadata" in given:
        given["metadata"] = dict(pair(each) for each in fields.get("metadata", ()))
    return given


def _print(answer: bytes, as_json: bool) -> None:
    if as_json:
        click.echo(answer)
    else:
        show(read(answer))


for _command in (create, update):
    for _option in _OPTIONS:
        _option(_command)
