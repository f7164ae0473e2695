"""Asks one simulated API without a server, with a clock in the test's hand."""

import json

from services.local.anthropic.api import Api
from services.local.anthropic.call import Call

HEADERS = {b"x-api-key": b"k", b"anthropic-version": b"2023-06-01"}
NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
DAY = 86_400


class Caller:
    """One API, and its replies read to the end."""

    def __init__(self, **settings):
        self.api = Api(clock=lambda: NOW, **settings)
        self.number = 0

    def reply(self, method, target, body=b"", spec="", **headers):
        self.number += 1
        path, _, query = target.partition("?")
        given = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        scripted = {b"x-simulate": spec.encode()} if spec else {}
        return self.api.reply(
            Call(
                number=self.number,
                method=method,
                path=path,
                query=query.encode(),
                headers=HEADERS | scripted | given,
                body=body if isinstance(body, bytes) else json.dumps(body).encode(),
            )
        )

    def call(self, method, target, body=b"", spec="", **headers):
        reply = self.reply(method, target, body, spec, **headers)
        return reply, b"".join(reply.chunks if reply.pieces is None else reply.pieces)

    def ask(self, method, target, body=b"", spec="", **headers):
        reply, content = self.call(method, target, body, spec, **headers)
        assert reply.status == 200, content
        return json.loads(content)

    def refused(self, method, target, body=b"", spec="", **headers):
        reply, content = self.call(method, target, body, spec, **headers)
        error = json.loads(content)["error"]
        return reply.status, error["type"], error["message"]
