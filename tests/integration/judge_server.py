"""A scripted server that speaks the chat API of OpenAI on loopback, faults included."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Script = Callable[[int, dict[str, Any]], Any]

FAST_RETRY = {"retry-after-ms": "1"}


@dataclass
class JudgeServer:
    """Answers by `script(number of the request, its body)`.

    A script returns the reply's text, a `web.Response`, or `CUT` for a connection that breaks in
    the middle of the reply.
    """

    script: Script
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        said = self.script(len(self.requests), body)
        if said is CUT:
            return await self._cut(request)
        if isinstance(said, web.Response):
            return said
        return web.json_response(completion(said, body["model"]))

    async def _cut(self, request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"content-length": "500"})
        reply.content_type = "application/json"
        await reply.prepare(request)
        await reply.write(b'{"id": "half')
        assert request.transport is not None
        request.transport.abort()
        return reply


CUT = object()


def completion(text: str | None, model: str, **message: Any) -> dict[str, Any]:
    """The body of a finished chat completion."""
    finish_reason = message.pop("finish_reason", "stop")
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [
            {
                "index": 0,
                "finish_reason": finish_reason,
                "message": {"role": "assistant", "content": text, **message},
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def fault(
    status: int, code: str = "fault", says: str = "no", headers: dict[str, str] | None = None
) -> web.Response:
    """An error as the API words it; clients may try again at once, unless its headers say more."""
    error = {"message": says, "type": code, "code": code}
    return web.Response(
        status=status,
        text=json.dumps({"error": error}),
        content_type="application/json",
        headers=FAST_RETRY if headers is None else headers,
    )


@contextmanager
def judge_server(script: Script) -> Iterator[JudgeServer]:
    """Serves in a thread until the block ends."""
    server = JudgeServer(script)
    loop = asyncio.new_event_loop()
    started = threading.Event()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", server.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return runner

    def serve() -> None:
        runner = loop.run_until_complete(start())
        started.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
