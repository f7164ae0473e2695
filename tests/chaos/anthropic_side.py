"""Asks the simulated Anthropic API, past the door, what it has served and what became of its batches."""

import httpx
import msgspec

from services.local.anthropic.books import Served
from tests.chaos.evidence import EndedBatch

ANSWER_S_MAX = 60.0
PAGE_BATCHES = 1_000
HEADERS = {"x-api-key": "sk-ant-chaos-judge", "anthropic-version": "2023-06-01"}


class Told(msgspec.Struct):
    """A batch in Anthropic's list."""

    id: str
    processing_status: str

    @property
    def is_ended(self) -> bool:
        return self.processing_status == "ended"


class _Page(msgspec.Struct):
    data: list[Told]
    has_more: bool


class _Result(msgspec.Struct):
    type: str


class _Line(msgspec.Struct):
    custom_id: str
    result: _Result


class AnthropicSide:
    """The books of one simulated API."""

    def __init__(self, port: int) -> None:
        self._base_url = f"http://127.0.0.1:{port}"

    async def served(self) -> list[Served]:
        """Give every message of the books, those of ended batches among them."""
        (answer,) = await self._answers("/simulation/served")
        return [msgspec.json.decode(line, type=Served) for line in answer.splitlines()]

    async def batches(self) -> list[Told]:
        """Give every batch, whoever made it."""
        (answer,) = await self._answers(f"/v1/messages/batches?limit={PAGE_BATCHES}")
        page = msgspec.json.decode(answer, type=_Page)
        assert not page.has_more, f"more than {PAGE_BATCHES} batches"
        return page.data

    async def ended(self) -> list[EndedBatch]:
        """Give every batch with how its items ended; all must have ended."""
        targets = {each.id: f"/v1/messages/batches/{each.id}/results" for each in await self.batches()}
        answers = await self._answers(*targets.values())
        return [
            EndedBatch(batch_id, _outcomes(answer)) for batch_id, answer in zip(targets, answers, strict=True)
        ]

    async def _answers(self, *targets: str) -> list[bytes]:
        async with httpx.AsyncClient(
            base_url=self._base_url, headers=HEADERS, trust_env=False, timeout=ANSWER_S_MAX
        ) as client:
            return [(await client.get(target)).raise_for_status().content for target in targets]


def _outcomes(results: bytes) -> dict[str, str]:
    lines = [msgspec.json.decode(line, type=_Line) for line in results.splitlines()]
    return {line.custom_id: line.result.type for line in lines}
