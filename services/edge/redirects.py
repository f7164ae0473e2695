"""Points the Location of a redirect to this gateway; one that leads elsewhere never passes.

Clients follow a redirect by themselves and take every header along but `Authorization` (httpx, fetch): the
key that they were given for the gateway in `x-api-key` would go wherever upstream points.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from services.edge.config import EdgeConfig
from services.edge.headers import RawHeaders
from services.edge.results_url import ADDRESS, CannotRewrite, Links, gateway_address, pointed_here

_REDIRECTS = range(300, 400)
_LOCATION = b"location"


class Redirects(NamedTuple):
    """Where the answer to one request may send its client: to the same gateway, and nowhere else."""

    scope: Mapping[str, Any]
    config: EdgeConfig
    target: bytes

    def led_here(self, status: int, headers: RawHeaders) -> RawHeaders:
        """Give the headers of an answer with its Location here; CannotRewrite where it leads elsewhere."""
        if status not in _REDIRECTS or not any(name.lower() == _LOCATION for name, _ in headers):
            return headers
        gateway = self.config.public_url.rstrip("/") or gateway_address(self.scope)
        if gateway is None:
            raise CannotRewrite("the request's Host names no host")
        links = Links(self.config.upstream.base_url, gateway)
        return [
            (name, self._pointed_here(value, links) if name.lower() == _LOCATION else value)
            for name, value in headers
        ]

    def _pointed_here(self, location: bytes, links: Links) -> bytes:
        """Read a Location as the client would that sent the request to upstream itself.

        What comes out is always a whole address: how clients read half of one differs.
        """
        try:
            said = location.decode("ascii").strip(" \t")
            parts = urlsplit(said)
            is_half = bool(parts.scheme) != bool(parts.netloc) and not said.startswith("//")
            if is_half or not ADDRESS.fullmatch(said):
                raise CannotRewrite("no address")
            base = urlsplit(links.upstream)
            asked = f"{base.scheme}://{base.netloc}{self.target.decode('ascii')}"
            address = pointed_here(urljoin(asked, said), links)
        except ValueError as exc:
            raise CannotRewrite("no address") from exc
        return address.encode()
