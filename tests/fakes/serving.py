"""Servers of a test on a free port, each in a thread; stopped, and waited for, at the end."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseServer

import uvicorn
from fastapi import FastAPI

from tests.fakes.appliance import until


@contextmanager
def serving(server: BaseServer) -> Iterator[None]:
    """`shutdown` waits for the next look round: by default half a second."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def api_on_a_port(app: FastAPI) -> Iterator[str]:
    """Its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive(), 20, "the API")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
