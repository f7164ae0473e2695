"""The routes of virtual keys, as LiteLLM has them."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from litestar import Request, get, post
from litestar.params import FromPath, FromQuery, JSONBody

from schemas.keys import VirtualKey
from services.edge.admin.answers import (
    AliasPage,
    KeyInfo,
    KeyMade,
    KeyPage,
    KeysDeleted,
    KeyShown,
    KeyUpdated,
    key_made,
    key_shown,
    key_updated,
    token_of,
)
from services.edge.admin.changes import WHO, changed_key, deleted, touched, with_secret
from services.edge.admin.description import BodyMayBeAbsent, Closed, ClosedBody, refusals
from services.edge.admin.desk import (
    PAGE_DEFAULT,
    PAGE_MAX,
    Desk,
    DeskType,
    credentials_of,
    key_named,
    key_of_alias,
    keys_named,
    own_grant,
    page_of,
)
from services.edge.admin.errors import AdminRefused
from services.edge.admin.fields import (
    GenerateKey,
    KeyFields,
    NamedKey,
    NamedKeys,
    NewSecret,
    RegenerateKey,
    RegenerateKeyInPath,
    UpdateKey,
)
from services.edge.identity import is_master
from services.edge.registry.secrets import digest_of, new_key_id, new_secret
from services.edge.registry.table import KEY, Entry
from services.edge.registry.writer import Change, alteration, creation, removal

MadeOf = Callable[[VirtualKey, datetime], VirtualKey]


@post(
    "/key/generate",
    status_code=200,
    opt={"body": GenerateKey, "is_body_optional": True},
    responses=refusals(413),
    operation_class=BodyMayBeAbsent,
)
async def generate_key(desk: Desk, data: JSONBody[Closed[GenerateKey] | None] = None) -> KeyMade:
    """Make a key; the answer is the only one that holds its secret."""
    data = data or GenerateKey()
    now = datetime.now(UTC)
    secret = data.key or new_secret()
    _check_new_secret(desk, secret)
    blank = VirtualKey(
        virtual_key_id=new_key_id(),
        revision=1,
        created_at=now,
        updated_at=now,
        created_by=WHO,
        updated_by=WHO,
    )
    key = changed_key(with_secret(blank, secret, now), data, now)
    _check_names(desk, key, data)
    await desk.writer.write([creation(key)])
    return key_made(key, secret)


@get("/key/info", opt={"query": ("key",), "is_open_to_keys": True}, responses=refusals(404))
async def key_info(request: Request[Any, Any, Any], desk: Desk, key: FromQuery[str | None] = None) -> KeyInfo:
    """Show a key by its secret, the sha256 of it, or its id; without one the caller's own."""
    credentials = credentials_of(request)
    if is_master(credentials, desk.master_key()):
        if not key:
            raise AdminRefused("The master key has no record: say which key with ?key=.", "key")
        found = key_named(desk, key)
    else:
        own = own_grant(desk, credentials).key
        if key and key not in (credentials.gateway, token_of(own), own.virtual_key_id):
            raise AdminRefused(
                "Only the master key may see other keys.", "key", status=403, kind="auth_error"
            )
        found = own
    return KeyInfo(key=token_of(found), info=key_shown(found))


@post("/key/update", status_code=200, opt={"body": UpdateKey}, responses=refusals(404, 413))
async def update_key(data: ClosedBody[UpdateKey], desk: Desk) -> KeyUpdated:
    """Change a key; what is left out stays as it is, and null takes away.

    `key` names it by its secret, the sha256 of it or its id; without `key` its `key_alias` names it.
    """
    if data.key:
        key = key_named(desk, data.key)
    elif isinstance(data.key_alias, str) and data.key_alias:
        key = key_of_alias(desk, data.key_alias, "key_alias")
    else:
        raise AdminRefused("key: says which key is to be changed; key_alias may do so in its place.", "key")
    _check_names(desk, key, data)
    return key_updated(await _changed(desk, key, lambda now_key, now: changed_key(now_key, data, now)))


@post("/key/regenerate", status_code=200, opt={"body": RegenerateKey}, responses=refusals(404, 413))
async def regenerate_key(desk: Desk, data: ClosedBody[RegenerateKey]) -> KeyMade:
    """Give a key a new secret, and lay over it what else is given; its id, and its history, stay."""
    if not data.key:
        raise AdminRefused("key: says which key is to have a new secret.", "key")
    return await _regenerated(desk, data.key, data)


@post(
    "/key/{key:str}/regenerate",
    status_code=200,
    opt={"body": RegenerateKeyInPath, "is_body_optional": True},
    responses=refusals(404, 413),
    operation_class=BodyMayBeAbsent,
)
async def regenerate_key_in_path(
    desk: Desk, key: FromPath[str], data: JSONBody[Closed[RegenerateKeyInPath] | None] = None
) -> KeyMade:
    """Do the same for the key in the path: better its id or its sha256, as paths stand in logs."""
    return await _regenerated(desk, key, data or RegenerateKeyInPath())


@post("/key/block", status_code=200, opt={"body": NamedKey}, responses=refusals(404, 413))
async def block_key(data: ClosedBody[NamedKey], desk: Desk) -> KeyShown:
    """Refuse a key from now on."""
    return await _blocked(desk, data, KeyFields(blocked=True))


@post("/key/unblock", status_code=200, opt={"body": NamedKey}, responses=refusals(404, 413))
async def unblock_key(data: ClosedBody[NamedKey], desk: Desk) -> KeyShown:
    """Let a blocked key in again."""
    return await _blocked(desk, data, KeyFields(blocked=False))


@post("/key/delete", status_code=200, opt={"body": NamedKeys}, responses=refusals(404, 413))
async def delete_keys(data: ClosedBody[NamedKeys], desk: Desk) -> KeysDeleted:
    """Delete keys, all of those named or none; usage that is booked keeps their names."""
    keys = keys_named(desk, data.keys or (), data.key_aliases or ())
    if not keys:
        raise AdminRefused("keys: names no key.", "keys")
    await desk.writer.write([deletion(key) for key in keys])
    return KeysDeleted(deleted_keys=[token_of(key) for key in keys])


@get(
    "/key/list",
    opt={"query": ("page", "size", "return_full_object", "user_id", "team_id", "key_alias")},
    responses=refusals(),
)
async def list_keys(
    desk: Desk,
    page: FromQuery[int] = 1,
    size: FromQuery[int] = PAGE_DEFAULT,
    return_full_object: FromQuery[bool] = False,
    user_id: FromQuery[str | None] = None,
    team_id: FromQuery[str | None] = None,
    key_alias: FromQuery[str | None] = None,
) -> KeyPage:
    """List keys, the newest first: those that match everything that is given."""
    asked = page_of(page, size)
    wanted = {"user_id": user_id, "team_id": team_id, "key_alias": key_alias}
    given = {name: value for name, value in wanted.items() if value is not None}
    keys = await asyncio.to_thread(_matching, desk.registry.table.standing(KEY), given)
    shown = asked.of(keys)
    return KeyPage(
        keys=[key_shown(key) for key in shown] if return_full_object else [token_of(key) for key in shown],
        total_count=len(keys),
        current_page=asked.number,
        total_pages=asked.count(len(keys)),
    )


@get("/key/aliases", opt={"query": ("page", "size")}, responses=refusals())
async def list_aliases(desk: Desk, page: FromQuery[int] = 1, size: FromQuery[int] = PAGE_MAX) -> AliasPage:
    """List the aliases of all keys, by the alphabet."""
    asked = page_of(page, size)
    aliases = await asyncio.to_thread(sorted, desk.registry.table.aliases())
    return AliasPage(
        aliases=list(asked.of(aliases)),
        total_count=len(aliases),
        current_page=asked.number,
        total_pages=asked.count(len(aliases)),
    )


def deletion(key: VirtualKey) -> Change:
    """Say how a key is deleted."""
    now = datetime.now(UTC)
    return removal(key, lambda standing: deleted(standing, now))


async def _blocked(desk: DeskType, data: NamedKey, fields: KeyFields) -> KeyShown:
    key = key_named(desk, data.key)
    return key_shown(await _changed(desk, key, lambda now_key, now: changed_key(now_key, fields, now)))


async def _regenerated(desk: DeskType, name: str, data: NewSecret) -> KeyMade:
    key = key_named(desk, name)
    secret = data.new_key or new_secret()
    _check_new_secret(desk, secret)
    _check_names(desk, key, data)
    changed = await _changed(
        desk,
        key,
        lambda standing, now: changed_key(with_secret(standing, secret, now, data.grace_period), data, now),
    )
    return key_made(changed, secret)


async def _changed(desk: DeskType, key: VirtualKey, made: MadeOf) -> VirtualKey:
    now = datetime.now(UTC)
    change = alteration(key, lambda standing: touched(made(standing, now), now))
    (entry,) = await desk.writer.write([change])
    return cast("VirtualKey", entry)


def _matching(entries: Iterable[Entry], given: Mapping[str, str]) -> list[VirtualKey]:
    keys = [each for each in entries if isinstance(each, VirtualKey)]
    for name, value in given.items():
        keys = [key for key in keys if getattr(key, name) == value]
    return sorted(keys, key=lambda key: (key.created_at, key.virtual_key_id), reverse=True)


def _check_new_secret(desk: DeskType, secret: str) -> None:
    if secret == desk.master_key() or desk.registry.table.key_of_digest(digest_of(secret)) is not None:
        raise AdminRefused("This key is there already.", "key")


def _check_names(desk: DeskType, key: VirtualKey, fields: KeyFields) -> None:
    """Hold an alias to one key, as far as this edge has read, and a team to one that there is."""
    if isinstance(fields.key_alias, str) and fields.key_alias:
        other = desk.registry.table.key_of_alias(fields.key_alias)
        if other is not None and other.virtual_key_id != key.virtual_key_id:
            raise AdminRefused("key_alias: another key has this alias.", "key_alias")
    if (
        isinstance(fields.team_id, str)
        and fields.team_id
        and desk.registry.table.team(fields.team_id) is None
    ):
        raise AdminRefused("team_id: there is no such team; /team/new makes one.", "team_id")


ROUTES = (
    generate_key,
    key_info,
    update_key,
    regenerate_key,
    regenerate_key_in_path,
    block_key,
    unblock_key,
    delete_keys,
    list_keys,
    list_aliases,
)
