"""Decides who may speak to this server: this machine, no web page, with the right password."""

import binascii
import hmac
import ipaddress
from base64 import b64decode
from dataclasses import dataclass
from urllib.parse import urlsplit

from services.local.clickhouse.errors import ErrorCode, refused
from services.local.clickhouse.request import Request


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """The one user of this server."""

    user: str = "default"
    password: str = ""


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address means this machine and no other."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_access(request: Request, account: Account) -> None:
    """Refuse a request that comes from elsewhere or with other credentials than the account's."""
    # A page in the developer's browser can post to loopback, and through a name of its own even read the
    # answer. SQL reaches files, so neither gets in: the name asked for must be this machine's, and a page's
    # origin too.
    for name in ("host", "origin"):
        value = request.headers.get(name, "")
        if value and not is_loopback(_host_of(value)):
            raise refused(ErrorCode.ACCESS_DENIED, f"The {name} header does not name this machine.")
    user, password = _credentials(request)
    right_user = hmac.compare_digest(user.encode(), account.user.encode())
    right_password = hmac.compare_digest(password.encode(), account.password.encode())
    if not (right_user and right_password):
        raise refused(
            ErrorCode.AUTHENTICATION_FAILED, "There is no such user, or the password is not the user's."
        )


def _host_of(value: str) -> str:
    try:
        return urlsplit(value if "//" in value else f"//{value}").hostname or value
    except ValueError:
        return value


def _credentials(request: Request) -> tuple[str, str]:
    """Find user and password where ClickHouse's clients put them: own headers, basic auth, the URL."""
    headers, parameters = request.headers, request.parameters
    if "x-clickhouse-user" in headers or "x-clickhouse-key" in headers:
        return headers.get("x-clickhouse-user", "default"), headers.get("x-clickhouse-key", "")
    scheme, _, told = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        return _basic(told)
    if scheme:
        raise refused(
            ErrorCode.AUTHENTICATION_FAILED, f"Authorization {scheme!r} is not supported: use Basic."
        )
    return parameters.get("user", "default"), parameters.get("password", "")


def _basic(told: str) -> tuple[str, str]:
    try:
        user, _, password = b64decode(told, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise refused(ErrorCode.AUTHENTICATION_FAILED, "The Authorization header is not valid.") from exc
    return user, password
