"""Lets an operator in, and finds what the request names; every route of the admin API goes through here."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.handlers import BaseRouteHandler
from litestar.params import SkipValidation

from schemas.keys import VirtualKey
from services.edge.admin.errors import AdminRefused, not_found
from services.edge.admin.fields import check_body, check_names
from services.edge.identity import Credentials, is_master, read_credentials
from services.edge.registry.rights import Grant, grant_of
from services.edge.registry.secrets import DIGEST_CHARS, ID_PREFIX, KEY_PREFIX, digest_of
from services.edge.registry.table import Registry
from services.edge.registry.writer import UNREAD, RegistryUnavailable, Writer

# Of a request's body: the longest lists of everything are below 200 KB.
BODY_BYTES_MAX = 1024 * 1024
# Keys or other records that one request may name; each is a record of its own.
NAMED_MAX = 1000
PAGE_MAX = 100
PAGE_DEFAULT = 10


class DeskType(NamedTuple):
    """What the routes work with."""

    registry: Registry
    writer: Writer
    master_key: Callable[[], str]


Desk = NamedDependency[SkipValidation[DeskType]]

# What is said of a key that does not count, and LiteLLM's type of the error.
_FAULTS: Mapping[str, tuple[str, str]] = {
    "unknown_credential": ("Authentication Error, Invalid API key provided.", "token_not_found_in_db"),
    "key_expired": ("Authentication Error, this key has expired.", "expired_key"),
    "key_blocked": ("Authentication Error, Key is blocked.", "auth_error"),
    "team_blocked": ("Authentication Error, the team of this key is blocked or gone.", "auth_error"),
}

Connection = ASGIConnection[Any, Any, Any, Any]
Guard = Callable[[Connection, BaseRouteHandler], None]
Item = TypeVar("Item")


class Page(NamedTuple):
    """A part of a list: its first item's place, and what is said of the whole."""

    start: int
    size: int
    number: int

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Cut this page out."""
        return items[self.start : self.start + self.size]

    def count(self, total: int) -> int:
        """Say how many pages there are."""
        return -(-total // self.size)


def page_of(number: int, size: int) -> Page:
    """Read which page is asked for."""
    if number < 1 or not 1 <= size <= PAGE_MAX:
        raise AdminRefused(f"page: must be 1 or more, size: 1 to {PAGE_MAX}.", "page")
    return Page((number - 1) * size, size, number)


def credentials_of(connection: Connection) -> Credentials:
    """Read what the caller shows."""
    return read_credentials(tuple(connection.scope["headers"]))


def only_master(desk: DeskType) -> Guard:
    """Build the guard that lets the master key in, and where a key may ask about itself that key."""

    def guard(connection: Connection, handler: BaseRouteHandler) -> None:
        _let_in(desk, credentials_of(connection), bool(handler.opt.get("is_open_to_keys")))

    return guard


def _let_in(desk: DeskType, credentials: Credentials, is_open_to_keys: bool) -> None:
    master_key = desk.master_key()
    if not master_key:
        raise NotFoundException
    if not credentials.gateway:
        raise _unauthorised("Authentication Error, No api key passed in.", 401)
    if not is_master(credentials, master_key):
        own_grant(desk, credentials)
        if not is_open_to_keys:
            raise _unauthorised("Only the master key may do this.", 403)
    if not desk.registry.is_read:
        raise RegistryUnavailable(UNREAD)


def own_grant(desk: DeskType, credentials: Credentials) -> Grant:
    """Find the virtual key that a caller shows; one that is not in force sees nothing."""
    grant = grant_of(credentials.gateway, desk.registry, datetime.now(UTC))
    if grant == "keys_unread":
        raise RegistryUnavailable(UNREAD)
    if isinstance(grant, str):
        message, kind = _FAULTS[grant]
        raise _unauthorised(message, 401, kind)
    return grant


def _unauthorised(message: str, status: int, kind: str = "auth_error") -> AdminRefused:
    return AdminRefused(message, "key", status=status, kind=kind)


async def check_fields(request: Request[Any, Any, Any]) -> None:
    """Refuse fields and parameters that the route does not have, before anything reads them."""
    opt = request.route_handler.opt
    check_names(request.query_params, opt.get("query", ()), "query")
    body: type[msgspec.Struct] | None = opt.get("body")
    if body is not None:
        raw = await request.body()
        if raw or not opt.get("is_body_optional"):
            check_body(raw, body)


def key_named(desk: DeskType, name: str, param: str = "key") -> VirtualKey:
    """Find a key by its secret, the sha256 of it, or its id."""
    key = _found(desk, name)
    if key is None:
        raise not_found("key", param)
    return key


def keys_named(desk: DeskType, names: Sequence[str], aliases: Sequence[str]) -> list[VirtualKey]:
    """Find several keys, each once; all of them or none."""
    if len(names) + len(aliases) > NAMED_MAX:
        raise AdminRefused(f"keys: at most {NAMED_MAX} at once.", "keys")
    found = [key_named(desk, name, "keys") for name in names]
    found += [key_of_alias(desk, alias, "key_aliases") for alias in aliases]
    return list({key.virtual_key_id: key for key in found}.values())


def key_of_alias(desk: DeskType, alias: str, param: str) -> VirtualKey:
    """Find a key by its alias."""
    key = desk.registry.table.key_of_alias(alias)
    if key is None:
        raise not_found("key", param)
    return key


def _found(desk: DeskType, name: str) -> VirtualKey | None:
    table = desk.registry.table
    if name.startswith(KEY_PREFIX):
        return table.key_of_digest(digest_of(name))
    if name.startswith(ID_PREFIX):
        return table.key(name)
    return table.key_of_digest(name) if len(name) == DIGEST_CHARS else None
