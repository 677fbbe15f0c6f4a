"""The limit for the fleet figures: the same requests, written by hand with aiohttp, without journal, plan or proof.

Usage: script.py PORT HOSTS STEPS PREFIX. Each host does its steps one after the other; a step is GET, PUT, GET.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp


async def host(session: aiohttp.ClientSession, base: str, name: str, steps: int) -> None:
    for step in range(steps):
        url = f"{base}/{name}/{step}"
        async with session.get(url) as reply:
            before = await reply.json()
        if before["version"] != "1":
            async with session.put(url, json={"version": "1"}) as reply:
                await reply.read()
        async with session.get(url) as reply:
            after = await reply.json()
        if after["version"] != "1":
            raise SystemExit(f"{url} was not changed")


async def main(port: int, hosts: int, steps: int, prefix: str) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(host(session, f"http://127.0.0.1:{port}", f"{prefix}{n}", steps) for n in range(hosts)))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
