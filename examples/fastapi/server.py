"""A FastAPI server that sends events as the tutorials of sse-starlette show it.

Each connection runs a generator of its own, which counts from 1 and gives its events no ids: a
browser that loses its connection here starts all over. With ssecast in front it does not.
"""

import asyncio
import json
import os

import uvicorn
from fastapi import FastAPI
from sse_starlette import EventSourceResponse

HOST = os.environ.get("HOST", "127.0.0.1")
PORT = int(os.environ.get("PORT", "8000"))
INTERVAL_SECONDS = float(os.environ.get("INTERVAL_MS", "1000")) / 1000

app = FastAPI()
connections = {"now": 0, "ever": 0}


async def ticks():
    connections["now"] += 1
    connections["ever"] += 1
    try:
        n = 0
        while True:
            n += 1
            yield {"data": json.dumps({"n": n})}
            await asyncio.sleep(INTERVAL_SECONDS)
    finally:
        connections["now"] -= 1


@app.get("/events")
async def events():
    return EventSourceResponse(ticks())


@app.get("/connections")
async def count_connections():
    """How many event streams this server has to feed, now and since it started."""
    return connections


if __name__ == "__main__":
    uvicorn.run(app, host=HOST, port=PORT)
