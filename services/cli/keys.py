"""`tollhouse keys`: makes virtual keys and says what they may do, through the admin API of an edge."""

import getpass
import re
import sys
from typing import cast

import click

from services.cli.admin import ask, delete_all, is_there, read, show_table, tell, with_json, with_url
from services.cli.fields import (
    LIMIT_OPTIONS,
    METADATA,
    MODELS,
    Pair,
    body_of,
    print_answer,
    show_record,
    unset_option,
)
from services.edge.registry.secrets import (
    DIGEST_CHARS,
    ENDING_CHARS,
    ID_PREFIX,
    KEY_CHARS_MIN,
    KEY_PREFIX,
    digest_of,
    name_of,
)

COLUMNS = ("virtual_key_id", "key_alias", "key_name", "team_id", "models", "blocked", "expires", "created_at")
PAGE_KEYS_MAX = 100
# For those who look at a terminal; more are paged through with --page.
SIZE_DEFAULT = 50

# Behind what is typed stands the admin API's name of the field, where that is another.
_OPTIONS = (
    click.Option(("--alias", "key_alias"), help="A name for people; one key at a time has it."),
    click.Option(("--team", "team_id"), help="The team it belongs to."),
    click.Option(("--user", "user_id"), help="Whose it is."),
    MODELS,
    click.Option(
        ("--model-alias", "aliases"),
        type=Pair(),
        multiple=True,
        metavar="NAME=MODEL",
        help="A name that it may ask by, and the model that goes to Anthropic instead.",
    ),
    click.Option(("--route", "allowed_routes"), multiple=True, help="A path, a pattern or a group."),
    click.Option(("--tag", "tags"), multiple=True, help="A tag on everything that it uses."),
    METADATA,
    click.Option(("--duration",), help="When it ends: 30s, 30m, 30h, 30d, 1mo."),
    click.Option(
        ("--on-disconnect",), type=click.Choice(("drain", "cancel")), help="For clients that hang up."
    ),
    *LIMIT_OPTIONS,
)
# What names a key and is no secret.
_OPEN_NAME = re.compile(rf"{ID_PREFIX}.*|[0-9a-f]{{{DIGEST_CHARS}}}")


@click.group()
def keys() -> None:
    """Make, change and delete virtual keys.

    KEY is a key's id (vk_...), the sha256 of its secret, or - to be asked for the secret itself, which
    has no place on a command line.
    """


@keys.command()
@click.option(
    "--secret-from-stdin",
    "is_brought",
    is_flag=True,
    help="Read its secret (sk-...) from standard input, in place of a new one.",
)
@with_url
@with_json
def create(url: str, as_json: bool, is_brought: bool, **fields: object) -> None:
    """Make a key and print its secret, this once, unless it was brought along."""
    body = body_of(_OPTIONS, fields)
    if is_brought:
        body["key"] = _from_stdin("secret: ")
    answer = tell(url, "/key/generate", body)
    if as_json:
        click.echo(answer)
    elif is_brought:
        show_record({name: value for name, value in read(answer).items() if name != "key"})
    else:
        show_record(read(answer))
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
    show_record(cast("dict[str, object]", read(answer)["info"]))


@keys.command()
@click.argument("key")
@with_url
@with_json
def update(url: str, as_json: bool, key: str, unset: tuple[str, ...], **fields: object) -> None:
    """Change KEY: what is given takes the place of what was, the rest stays."""
    body = body_of(_OPTIONS, fields, unset)
    if not body:
        raise click.UsageError("nothing to change: give at least one option")
    print_answer(tell(url, "/key/update", {"key": _named(key), **body}), as_json)


@keys.command()
@click.argument("key")
@with_url
@with_json
def block(url: str, as_json: bool, key: str) -> None:
    """Refuse KEY from now on."""
    print_answer(tell(url, "/key/block", {"key": _named(key)}), as_json)


@keys.command()
@click.argument("key")
@with_url
@with_json
def unblock(url: str, as_json: bool, key: str) -> None:
    """Let KEY in again."""
    print_answer(tell(url, "/key/unblock", {"key": _named(key)}), as_json)


@keys.command()
@click.argument("key")
@click.option("--grace-period", help="How long older secrets work on: 30s, 30m, 30h, 30d; else no longer.")
@with_url
@with_json
def rotate(url: str, as_json: bool, key: str, grace_period: str | None) -> None:
    """Give KEY a new secret and print it, this once; its id stays."""
    body = {"key": _named(key), **({"grace_period": grace_period} if grace_period else {})}
    print_answer(tell(url, "/key/regenerate", body), as_json)


@keys.command()
@click.argument("named", metavar="KEY...", nargs=-1, required=True)
@with_url
@with_json
def delete(url: str, as_json: bool, named: tuple[str, ...]) -> None:
    """Delete keys, all of those named or none; what they used stays booked."""
    names = {_sent(key): _shown(key) for key in map(_asked, named)}

    def absent() -> list[str]:
        return [names[name] for name in names if not (name and is_there(url, "/key/info", {"key": name}))]

    answer = delete_all(url, "/key/delete", {"keys": list(names)}, absent)
    if as_json:
        click.echo(answer)
        return
    for token in cast("list[str]", read(answer)["deleted_keys"]):
        click.echo(f"deleted {token}")


def _named(key: str) -> str:
    return _sent(_asked(key))


def _asked(key: str) -> str:
    """Ask for the secret where it is meant, as everybody on the host can see a command line."""
    return _from_stdin("key: ") if key == "-" else key


def _from_stdin(prompt: str) -> str:
    try:
        text = (getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline()).strip()
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise click.UsageError("standard input holds no key")
    return text


def _sent(key: str) -> str:
    """Give the name that goes to the edge: of a secret its sha256, as logs on the way may have addresses."""
    return digest_of(key) if key.startswith(KEY_PREFIX) else key


def _shown(key: str) -> str:
    """Give what may be printed of what was typed: it may be a secret, or one without its head."""
    if key.startswith(KEY_PREFIX):
        return name_of(key)
    if _OPEN_NAME.fullmatch(key) or len(key) < KEY_CHARS_MIN:
        return key or "''"
    return f"...{key[-ENDING_CHARS:]}"


for _command in (create, update):
    _command.params.extend(_OPTIONS)
update.params.append(unset_option(_OPTIONS))
