"""A backend of FastAPI that does what backends do."""

import asyncio
import hashlib
import os
import socket

import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import StreamingResponse

app = FastAPI()
left = 0


@app.api_route("/items/{id:path}", methods=["GET", "HEAD"])
async def read(id: str, request: Request, q: list[str] = Query(default=[])):
    return {"id": id, "q": q, "host": request.headers["host"]}


@app.post("/items", status_code=201)
async def make(item: dict):
    return item


@app.delete("/items/{id}", status_code=204)
async def delete(id: str):
    return Response(status_code=204)


@app.put("/upload")
async def upload(request: Request):
    digest, n_bytes = hashlib.sha256(), 0
    async for piece in request.stream():
        digest.update(piece)
        n_bytes += len(piece)
    return {"bytes": n_bytes, "sha256": digest.hexdigest()}


@app.post("/chat")
async def chat(question: dict):
    async def answer():
        global left
        n = 0
        try:
            while n < question["tokens"]:
                await asyncio.sleep(question["interval"])
                yield f"data: {n}\n\n"
                n += 1
        finally:
            if n < question["tokens"]:
                left += 1

    return StreamingResponse(answer(), media_type="text/event-stream")


@app.get("/left")
async def how_many_left():
    return {"left": left}


if __name__ == "__main__":
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "0"))))
    listener.listen(100)
    host, port = listener.getsockname()
    print(f"listening on http://{host}:{port}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
