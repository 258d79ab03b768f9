"""A real API process on a port: python -m tests.fakes.api_process FOLDER PORT IRONIC_URL.

FOLDER is one that tests.fakes.api.some_parts made. With a token, as on the management wire; loaded
and run as `seed serve api` does it.
"""

import asyncio
import gc
import os
import socket
import sys
import threading
from pathlib import Path

BACKLOG = 2048  # a thousand come at once; nginx is not between


def main(base: Path, port: int, ironic_url: str) -> None:
    gc.disable()
    from pydantic import SecretStr

    from api.app import create_app
    from api.parts import Door, Parts
    from provisioning.secrets import Sealer
    from provisioning.store import Store
    from seed import log as logs
    from seed import serve
    from tests.fakes.api import IRONIC_PASSWORD

    gc.enable()
    logs.configure(sys.stdout)
    parts = Parts(
        store=Store(f"sqlite:///{base / 'seed.db'}"),
        sealer=Sealer(base / "master.pub"),
        ironic_url=ironic_url,
        ironic_user="seed-api",
        ironic_password=SecretStr(IRONIC_PASSWORD),
        image_dir=base / "images",
        ca_pem=base / "ca.pem",
    )
    with socket.create_server(("127.0.0.1", port), backlog=BACKLOG) as listener:
        server = serve._server(create_app(parts, Door.WEB))
        asyncio.run(serve._until_told({server: listener}, parts.feed))


def follow() -> None:
    """Whoever started us holds our standard input: without them we end, too."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=follow, daemon=True).start()
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
