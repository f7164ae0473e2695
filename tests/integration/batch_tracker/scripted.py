"""An API that answers each path as a test says, for what the simulated one would never do."""

import asyncio
import contextlib
import json
import uuid
from datetime import UTC, datetime, timedelta


class ScriptedApi:
    """Answers of one batch: each is used once, but for the last, which is used for ever."""

    def __init__(self):
        self.batch_id = f"msgbatch_{uuid.uuid4().hex}"
        self.created_at = datetime.now(UTC) - timedelta(hours=1)
        self.batch_answers = []
        self.results_answers = []
        self.page_answers = []
        self.asked = []
        self.base_url = ""

    def batch(self, status="ended", archived=False, **counts):
        ended = (self.created_at + timedelta(minutes=5)).isoformat() if status == "ended" else None
        zero = {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        return {
            "id": self.batch_id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": {**zero, **counts},
            "created_at": self.created_at.isoformat(),
            "expires_at": (self.created_at + timedelta(hours=24)).isoformat(),
            "ended_at": ended,
            "archived_at": self.created_at.isoformat() if archived else None,
            "cancel_initiated_at": None,
            "results_url": None,
        }

    def answer(self, path):
        if path.startswith("/v1/messages/batches?"):
            answers = self.page_answers
        else:
            answers = self.results_answers if path.endswith("/results") else self.batch_answers
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ")[1].decode()
                self.asked.append(path)
                status, body, headers = _whole(self.answer(path))
                lines = [f"HTTP/1.1 {status} -", f"content-length: {len(body)}", *headers]
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
                await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()


def succeeded(custom_id, **usage):
    message = {
        "id": f"msg_{custom_id}",
        "model": "claude-sonnet-5",
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 5, **usage},
    }
    return json.dumps({"custom_id": custom_id, "result": {"type": "succeeded", "message": message}}).encode()


def _whole(answer):
    if isinstance(answer, int):
        return answer, b'{"type":"error"}', ()
    if isinstance(answer, dict):
        return 200, json.dumps(answer).encode(), ()
    if isinstance(answer, list):
        return 200, b"\n".join(answer) + b"\n", ()
    return answer
