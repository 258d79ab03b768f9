"""The address on 127.0.0.1 that a browser is sent back to after a login (RFC 8252, section 7.3)."""

import html
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit


class Loopback:
    """Answers until a request with our `state` came; to any other it says 404."""

    def __init__(self, state: str) -> None:
        self._came: dict[str, str] | None = None
        keep: Callable[[dict[str, str]], None] = lambda found: setattr(self, "_came", found)  # noqa: E731

        class Handler(BaseHTTPRequestHandler):
            timeout = 5.0

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                ours = parts.path == "/callback" and query.get("state") == state
                if ours:
                    keep(query)
                said = "You may close this page." if ours else "Not here."
                body = f"<!doctype html><title>Seed</title><p>{html.escape(said)}".encode()
                self.send_response(200 if ours else 404)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """The address holds the code: it is in no log."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/callback"

    def __enter__(self) -> "Loopback":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()

    def wait(self, until: float) -> dict[str, str] | None:
        """What the browser brought; None: nothing until then (time.monotonic)."""
        self._server.timeout = 1.0
        while self._came is None and time.monotonic() < until:
            self._server.handle_request()
        return self._came
