"""The benchmarks' server: keeps one JSON document for each path in memory and answers after a fixed delay.

GET returns the document, PUT replaces it. It counts requests by method at /count, so that both sides of a comparison can
be held to the same number.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

from aiohttp import web


def application(delay: float) -> web.Application:
    """The server's application; `delay` in seconds before every answer."""
    documents: dict[str, object] = {}
    count: Counter[str] = Counter()

    async def handle(request: web.Request) -> web.Response:
        if request.path == "/count":
            return web.json_response(count)
        count[request.method] += 1
        await asyncio.sleep(delay)
        if request.method == "PUT":
            documents[request.path] = await request.json()
        return web.json_response(documents.get(request.path, {"version": "0"}))

    made = web.Application()
    made.router.add_route("*", "/{tail:.*}", handle)
    return made


if __name__ == "__main__":
    web.run_app(application(float(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
