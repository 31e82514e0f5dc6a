# A thousand requests with httpx, half of them one after the other and half of them twenty at a time, over one version of
# HTTP; prints what the server said of each, a line each.
#
# python h2_client.py URL CA VERSION: VERSION is HTTP/2 or HTTP/1.1.
import asyncio
import ssl
import sys

import httpx

url, ca, version = sys.argv[1:]
options = {
    "http2": version == "HTTP/2",
    "http1": version == "HTTP/1.1",
    "verify": ssl.create_default_context(cafile=ca),
    "trust_env": False,
    "timeout": 50,
}


def facts(response):
    response.raise_for_status()
    assert response.http_version == version, response.http_version
    return response.text


async def all_at_once():
    room = asyncio.Semaphore(20)

    async def one(client):
        async with room:
            return facts(await client.get(url))

    async with httpx.AsyncClient(**options) as client:
        return await asyncio.gather(*(one(client) for _ in range(500)))


with httpx.Client(**options) as client:
    told = [facts(client.get(url)) for _ in range(500)]
told += asyncio.run(all_at_once())
print("".join(told), end="")
