"""Puts the admin API together: its routes, who may call them, and the document that describes them."""

from collections.abc import Callable
from importlib import metadata

from litestar import Router
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from services.edge.admin import customers, keys, teams
from services.edge.admin.desk import BODY_BYTES_MAX, DeskType, check_fields, only_master
from services.edge.admin.errors import AdminRefused, failed, not_valid, refused, taken, unavailable, vanished
from services.edge.registry.table import Registry
from services.edge.registry.writer import RegistryUnavailable, Taken, Vanished, Writer


def admin_router(registry: Registry, writer: Writer, master_key: Callable[[], str]) -> Router:
    """Build the routes; the key that opens them is asked for each time, as it may be another by then."""
    desk = DeskType(registry, writer, master_key)
    return Router(
        "/",
        route_handlers=[*keys.ROUTES, *teams.ROUTES, *customers.ROUTES],
        dependencies={"desk": Provide(lambda: desk, sync_to_thread=False)},
        guards=[only_master(desk)],
        before_request=check_fields,
        exception_handlers={
            AdminRefused: refused,
            RegistryUnavailable: unavailable,
            Vanished: vanished,
            Taken: taken,
            HTTPException: not_valid,
            Exception: failed,
        },
        request_max_body_size=BODY_BYTES_MAX,
        security=[{"master_key": []}],
    )


def open_api() -> OpenAPIConfig:
    """Describe the routes at /openapi.json."""
    return OpenAPIConfig(
        title="Tollhouse",
        version=metadata.version("tollhouse"),
        description="Keys, teams and customers of the gateway, behind its master key.",
        path="/openapi.json",
        render_plugins=[JsonRenderPlugin(path="/")],
        use_handler_docstrings=True,
        components=Components(security_schemes={"master_key": SecurityScheme(type="http", scheme="bearer")}),
    )
