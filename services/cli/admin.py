"""Speaks to the admin API of an edge for the commands that manage keys; no secret is ever an argument."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, ParamSpec, TypeVar, cast

import click
import httpx
import msgspec

from services.cli.columns import printable, table
from services.runtime.service import EXIT_FAILED, EXIT_REFUSED

MASTER_KEY = "TOLLHOUSE_MASTER_KEY"
URL_DEFAULT = "http://127.0.0.1:4000"
# A write waits for Kafka at most 15 s.
ANSWER_S_MAX = 30.0
_NOTHING = "-"
# The type of an edge's error about a record that it does not know.
_NOT_FOUND = "not_found_error"

Json = Mapping[str, object]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class _Error(msgspec.Struct, frozen=True):
    message: str
    type: str = ""
    param: str | None = None


class _ErrorAnswer(msgspec.Struct, frozen=True):
    error: _Error


def with_url(command: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Give a command the option that says which edge it speaks to."""
    return click.option(
        "--url",
        default=URL_DEFAULT,
        envvar="TOLLHOUSE_URL",
        show_default=True,
        show_envvar=True,
        help=f"Address of an edge; its master key is read from {MASTER_KEY}.",
    )(command)


def with_json(command: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Give a command the option that prints what the edge answered."""
    return click.option("--json", "as_json", is_flag=True, help="Print the edge's answer as it came.")(
        command
    )


def ask(url: str, path: str, query: Mapping[str, str | int]) -> bytes:
    """Read something; leaves with one sentence where that cannot be."""
    return _passed(_answered(url, "GET", path, query, None))


def is_there(url: str, path: str, query: Mapping[str, str | int]) -> bool:
    """Say whether the edge knows a record; leaves with one sentence where that cannot be told."""
    answer = _answered(url, "GET", path, query, None)
    if _is_not_found(answer):
        return False
    _passed(answer)
    return True


def tell(url: str, path: str, body: Json) -> bytes:
    """Change something; leaves with one sentence where that cannot be."""
    return _passed(_answered(url, "POST", path, {}, body))


def delete_all(url: str, path: str, body: Json, absent: Callable[[], Sequence[str]]) -> bytes:
    """Delete records, all or none; the edge does not say which are not there, so `absent` finds that out."""
    answer = _answered(url, "POST", path, {}, body)
    if _is_not_found(answer) and (names := absent()):
        _leave(f"not there, so nothing was deleted: {', '.join(names)}", EXIT_REFUSED)
    return _passed(answer)


def read(answer: bytes) -> dict[str, object]:
    """Read an answer that is an object."""
    return msgspec.json.decode(answer, type=dict[str, object])


def show(members: Json) -> None:
    """Print one record, a member a line."""
    rows = [(name, _shown(value)) for name, value in members.items() if value not in (None, "", [], {})]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name.ljust(width)}  {printable(value)}")


def show_table(records: Sequence[Json], columns: Sequence[str]) -> None:
    """Print records, one a line."""
    click.echo(table(columns, [[_shown(record.get(name)) for name in columns] for record in records]))


def _shown(value: object) -> str:
    if value in (None, "", [], {}):
        return _NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_shown(each) for each in cast("list[object]", value))
    if isinstance(value, dict):
        return ", ".join(f"{name}={_shown(each)}" for name, each in cast("dict[str, object]", value).items())
    return str(value)


def _answered(
    url: str, method: str, path: str, query: Mapping[str, str | int], body: Json | None
) -> httpx.Response:
    master_key = os.environ.get(MASTER_KEY, "")
    if not master_key:
        _leave(f"set {MASTER_KEY} to the master key of the edge", EXIT_REFUSED)
    headers = {"authorization": f"Bearer {master_key}", "content-type": "application/json"}
    try:
        content = None if body is None else msgspec.json.encode(body)
    except UnicodeEncodeError:
        _leave("what is given must be UTF-8", EXIT_REFUSED)
    try:
        with httpx.Client(trust_env=False, timeout=ANSWER_S_MAX) as client:
            return client.request(
                method, url.rstrip("/") + path, params=query, headers=headers, content=content
            )
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError) as exc:
        _leave(f"cannot reach the edge at {url}: {type(exc).__name__}", EXIT_FAILED)


def _passed(answer: httpx.Response) -> bytes:
    if not answer.is_success:
        error = _error(answer)
        why = error.message if error else f"the answer is {answer.status_code}, and none of an edge's"
        _leave(why, EXIT_REFUSED if answer.status_code < 500 else EXIT_FAILED)
    return answer.content


def _is_not_found(answer: httpx.Response) -> bool:
    """Tell a record that is not there, which a field named, from a route that is not."""
    error = None if answer.is_success else _error(answer)
    return error is not None and error.type == _NOT_FOUND and error.param is not None


def _error(answer: httpx.Response) -> _Error | None:
    try:
        return msgspec.json.decode(answer.content, type=_ErrorAnswer).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _leave(why: str, code: int) -> NoReturn:
    click.echo(f"tollhouse: {printable(why)}", err=True)
    sys.exit(code)
