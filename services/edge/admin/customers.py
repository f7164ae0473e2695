"""The routes of end users, which LiteLLM calls customers, and serves under /end_user as well."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import cast

from litestar import get, post
from litestar.params import FromQuery

from schemas.keys import EndUser
from services.edge.admin.answers import (
    CustomersBlocked,
    CustomersDeleted,
    CustomerShown,
    customer_shown,
)
from services.edge.admin.changes import WHO, bounded, changed_end_user, deleted, touched
from services.edge.admin.description import ClosedBody, refusals
from services.edge.admin.desk import NAMED_MAX, Desk, DeskType
from services.edge.admin.errors import AdminRefused, not_found
from services.edge.admin.fields import CustomerFields, NamedCustomers
from services.edge.registry.table import END_USER, Entry
from services.edge.registry.writer import Change, alteration, creation, creation_or_alteration, removal


@post(
    ["/customer/new", "/end_user/new"], status_code=200, opt={"body": CustomerFields}, responses=refusals(413)
)
async def new_customer(data: ClosedBody[CustomerFields], desk: Desk) -> CustomerShown:
    """Make a record of an end user; one that nobody made a record of may do what the key may."""
    if desk.registry.table.end_user(data.user_id) is not None:
        raise AdminRefused("user_id: there is such a customer.", "user_id")
    end_user = changed_end_user(_blank(data.user_id), data)
    await desk.writer.write([creation(end_user)])
    return customer_shown(end_user)


@get(["/customer/info", "/end_user/info"], opt={"query": ("end_user_id",)}, responses=refusals(404))
async def customer_info(end_user_id: FromQuery[str], desk: Desk) -> CustomerShown:
    """Show an end user."""
    return customer_shown(_named(desk, end_user_id, "end_user_id"))


@post(
    ["/customer/update", "/end_user/update"],
    status_code=200,
    opt={"body": CustomerFields},
    responses=refusals(404, 413),
)
async def update_customer(data: ClosedBody[CustomerFields], desk: Desk) -> CustomerShown:
    """Change an end user's record; what is left out stays as it is, and null takes away."""
    end_user = _named(desk, data.user_id, "user_id")
    now = datetime.now(UTC)
    change = alteration(end_user, lambda standing: touched(changed_end_user(standing, data), now))
    (entry,) = await desk.writer.write([change])
    return customer_shown(cast("EndUser", entry))


@post(
    ["/customer/block", "/end_user/block"],
    status_code=200,
    opt={"body": NamedCustomers},
    responses=refusals(413),
)
async def block_customers(data: ClosedBody[NamedCustomers], desk: Desk) -> CustomersBlocked:
    """Refuse requests of these end users from now on; who has no record gets one."""
    now = datetime.now(UTC)

    def change(user_id: str) -> Change:
        fields = CustomerFields(user_id=user_id, blocked=True)
        blank = changed_end_user(_blank(user_id), fields)
        return creation_or_alteration(blank, lambda stands: touched(changed_end_user(stands, fields), now))

    entries = await desk.writer.write([change(user_id) for user_id in _ids(data)])
    return CustomersBlocked(blocked_users=[customer_shown(cast("EndUser", entry)) for entry in entries])


@post(
    ["/customer/unblock", "/end_user/unblock"],
    status_code=200,
    opt={"body": NamedCustomers},
    responses=refusals(404, 413),
)
async def unblock_customers(data: ClosedBody[NamedCustomers], desk: Desk) -> CustomersBlocked:
    """Let blocked end users in again; answers those that are blocked still, which is none of them."""
    now = datetime.now(UTC)

    def change(user_id: str) -> Change:
        fields = CustomerFields(user_id=user_id, blocked=False)
        standing = _named(desk, user_id, "user_ids")
        return alteration(standing, lambda stands: touched(changed_end_user(stands, fields), now))

    await desk.writer.write([change(user_id) for user_id in _ids(data)])
    return CustomersBlocked(blocked_users=[])


@post(
    ["/customer/delete", "/end_user/delete"],
    status_code=200,
    opt={"body": NamedCustomers},
    responses=refusals(404, 413),
)
async def delete_customers(data: ClosedBody[NamedCustomers], desk: Desk) -> CustomersDeleted:
    """Delete records of end users, all of those named or none; what is booked to them stays."""
    end_users = [_named(desk, each, "user_ids") for each in _ids(data)]
    now = datetime.now(UTC)
    await desk.writer.write([removal(each, lambda standing: deleted(standing, now)) for each in end_users])
    return CustomersDeleted(deleted_customers=len(end_users))


@get(["/customer/list", "/end_user/list"], opt={"query": ()}, responses=refusals())
async def list_customers(desk: Desk) -> list[CustomerShown]:
    """List every end user that has a record, the newest first."""
    found = await asyncio.to_thread(_end_users, desk.registry.table.standing(END_USER))
    return [customer_shown(each) for each in sorted(found, key=lambda each: each.created_at, reverse=True)]


def _end_users(entries: Iterable[Entry]) -> list[EndUser]:
    return [each for each in entries if isinstance(each, EndUser)]


def _ids(data: NamedCustomers) -> list[str]:
    if not 1 <= len(data.user_ids) <= NAMED_MAX:
        raise AdminRefused(f"user_ids: names 1 to {NAMED_MAX} customers.", "user_ids")
    return list(dict.fromkeys(data.user_ids))


def _blank(user_id: str) -> EndUser:
    if not user_id:
        raise AdminRefused("user_id: must not be empty.", "user_id")
    now = datetime.now(UTC)
    return EndUser(
        end_user_id=bounded(user_id, "user_id"),
        revision=1,
        created_at=now,
        updated_at=now,
        created_by=WHO,
        updated_by=WHO,
    )


def _named(desk: DeskType, user_id: str, param: str) -> EndUser:
    end_user = desk.registry.table.end_user(user_id)
    if end_user is None:
        raise not_found("customer", param)
    return end_user


ROUTES = (
    new_customer,
    customer_info,
    update_customer,
    block_customers,
    unblock_customers,
    delete_customers,
    list_customers,
)
