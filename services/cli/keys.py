"""`tollhouse keys`: makes virtual keys and says what they may do, through the admin API of an edge."""

import getpass
import sys
from typing import Unpack, cast

import click

from services.cli.admin import ask, read, show, show_table, tell, with_json, with_url
from services.cli.limits import LIMIT_OPTIONS, LimitFields
from services.edge.registry.secrets import KEY_PREFIX, digest_of

COLUMNS = ("virtual_key_id", "key_alias", "key_name", "team_id", "models", "blocked", "expires", "created_at")
PAGE_KEYS_MAX = 100
# For those who look at a terminal; more are paged through with --page.
SIZE_DEFAULT = 50


class Fields(LimitFields, total=False):
    """What the options say of a key; None, or nothing, where an option was not given."""

    alias: str | None
    team: str | None
    user: str | None
    models: tuple[str, ...]
    aliases: tuple[str, ...]
    routes: tuple[str, ...]
    tags: tuple[str, ...]
    metadata: tuple[str, ...]
    duration: str | None
    on_disconnect: str | None


_OPTIONS = (
    click.option("--alias", help="A name for people; one key at a time has it."),
    click.option("--team", help="The team it belongs to."),
    click.option("--user", help="Whose it is."),
    click.option("--model", "models", multiple=True, help="A model, or a pattern such as 'claude-haiku-*'."),
    click.option(
        "--model-alias",
        "aliases",
        multiple=True,
        metavar="NAME=MODEL",
        help="A name that it may ask by, and the model that goes to Anthropic instead.",
    ),
    click.option("--route", "routes", multiple=True, help="A path, a pattern or a group."),
    click.option("--tag", "tags", multiple=True, help="A tag on everything that it uses."),
    click.option("--metadata", multiple=True, metavar="NAME=VALUE", help="The same as a name and a value."),
    click.option("--duration", help="When it ends: 30s, 30m, 30h, 30d, 1mo."),
    click.option("--on-disconnect", type=click.Choice(("drain", "cancel")), help="For clients that hang up."),
    *LIMIT_OPTIONS,
)
_NAMES = {"alias": "key_alias", "team": "team_id", "user": "user_id", "routes": "allowed_routes"}


@click.group()
def keys() -> None:
    """Make, change and delete virtual keys.

    KEY is a key's id (vk_...), the sha256 of its secret, or - to be asked for the secret itself, which
    has no place on a command line.
    """


@keys.command()
@with_url
@with_json
def create(url: str, as_json: bool, **fields: Unpack[Fields]) -> None:
    """Make a key and print its secret, this once."""
    answer = tell(url, "/key/generate", _body(fields))
    _print(answer, as_json)
    if not as_json:
        click.echo("The key is shown this once: only its sha256 is kept.", err=True)


@keys.command("list")
@click.option("--team", help="Only those of this team.")
@click.option("--user", help="Only those of this user.")
@click.option("--page", type=click.IntRange(1), default=1, show_default=True)
@click.option("--size", type=click.IntRange(1, PAGE_KEYS_MAX), default=SIZE_DEFAULT, show_default=True)
@with_url
@with_json
def list_(url: str, as_json: bool, team: str | None, user: str | None, page: int, size: int) -> None:
    """List keys, the newest first."""
    query: dict[str, str | int] = {"page": page, "size": size, "return_full_object": "true"}
    query |= {name: value for name, value in (("team_id", team), ("user_id", user)) if value is not None}
    answer = ask(url, "/key/list", query)
    if as_json:
        click.echo(answer)
        return
    members = read(answer)
    records = cast("list[dict[str, object]]", members["keys"])
    show_table(records, COLUMNS)
    if members["total_pages"] not in (0, 1):
        click.echo(f"page {page} of {members['total_pages']}, {members['total_count']} keys", err=True)


@keys.command("show")
@click.argument("key")
@with_url
@with_json
def show_(url: str, as_json: bool, key: str) -> None:
    """Print what is known of KEY."""
    answer = ask(url, "/key/info", {"key": _named(key)})
    if as_json:
        click.echo(answer)
        return
    show(cast("dict[str, object]", read(answer)["info"]))


@keys.command()
@click.argument("key")
@with_url
@with_json
def update(url: str, as_json: bool, key: str, **fields: Unpack[Fields]) -> None:
    """Change KEY: what is given takes the place of what was, the rest stays."""
    body = _body(fields)
    if not body:
        raise click.UsageError("nothing to change: give at least one option")
    _print(tell(url, "/key/update", {"key": _named(key), **body}), as_json)


@keys.command()
@click.argument("key")
@with_url
@with_json
def block(url: str, as_json: bool, key: str) -> None:
    """Refuse KEY from now on."""
    _print(tell(url, "/key/block", {"key": _named(key)}), as_json)


@keys.command()
@click.argument("key")
@with_url
@with_json
def unblock(url: str, as_json: bool, key: str) -> None:
    """Let KEY in again."""
    _print(tell(url, "/key/unblock", {"key": _named(key)}), as_json)


@keys.command()
@click.argument("key")
@click.option("--grace-period", help="How long the old secret works on: 30s, 30m, 30h, 30d.")
@with_url
@with_json
def rotate(url: str, as_json: bool, key: str, grace_period: str | None) -> None:
    """Give KEY a new secret and print it, this once; its id stays."""
    body = {"key": _named(key), **({"grace_period": grace_period} if grace_period else {})}
    _print(tell(url, "/key/regenerate", body), as_json)


@keys.command()
@click.argument("named", metavar="KEY...", nargs=-1, required=True)
@with_url
@with_json
def delete(url: str, as_json: bool, named: tuple[str, ...]) -> None:
    """Delete keys, all of those named or none; what they used stays booked."""
    answer = tell(url, "/key/delete", {"keys": [_named(key) for key in named]})
    if as_json:
        click.echo(answer)
        return
    for token in cast("list[str]", read(answer)["deleted_keys"]):
        click.echo(f"deleted {token}")


def _named(key: str) -> str:
    """Ask for the secret where it is meant, as everybody on the host can see a command line.

    Only its sha256 goes to the edge: addresses stand in the logs of whatever lies between.
    """
    if key == "-":
        key = (getpass.getpass("key: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    return digest_of(key) if key.startswith(KEY_PREFIX) else key


def _body(fields: Fields) -> dict[str, object]:
    given = {_NAMES.get(name, name): value for name, value in fields.items() if value not in (None, ())}
    if "metadata" in given:
        given["metadata"] = dict(pair(each) for each in fields.get("metadata", ()))
    if "aliases" in given:
        given["aliases"] = dict(pair(each, "--model-alias") for each in fields.get("aliases", ()))
    return given


def pair(text: str, option: str = "--metadata") -> tuple[str, str]:
    """Read NAME=VALUE."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise click.BadParameter("must be NAME=VALUE", param_hint=option)
    return name, value


def _print(answer: bytes, as_json: bool) -> None:
    if as_json:
        click.echo(answer)
    else:
        show(read(answer))


for _command in (create, update):
    for _option in _OPTIONS:
        _option(_command)
