"""Starts Ironic. Copied beside ironic.conf; runs in the environment of Ironic, without ours.

Three things of Ironic 39.0.0 are made cheaper on the way:

It hashes a BMC's password with 600,000 rounds of PBKDF2 whenever it takes up a Redfish connection,
cached session or not (ironic/drivers/modules/redfish/utils.py, SessionCache): a quarter of a second
of CPU, some six times for each `manage` and once for each look at a server's power. The result is
part of a key of a dictionary in this process, is stored nowhere, and lies beside the connection
that holds the password itself. So a keyed hash does, with a key of this process alone. It is the
only use of PBKDF2 in Ironic's environment; a test sees to it that this stays so.

Its write transactions on SQLite begin as readers. Where another one wrote meanwhile they fail at
once, and Ironic sleeps 0.1 to 1 s before it tries again (ironic/db/sqlalchemy/api.py,
wrap_sqlite_retry). Here they take the write lock as they begin, as ours do (provisioning/store.py).

It asks an agent every six seconds whether an order is done that it waits for, such as the boot
loader of each UEFI server: `[agent] command_wait_interval` is read as the module is loaded
(ironic/drivers/modules/agent_client.py, _wait_for_command), before ironic.conf is. So it is set
before that.
"""

import hashlib
import hmac
import runpy
import secrets
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_KEY = secrets.token_bytes(64)
LOOK_SECONDS, LOOKS = 1, 600
"""Between two questions to an agent; as long in all as Ironic's own 100 times 6 s."""


def fingerprint(
    hash_name: str, password: bytes, salt: bytes, iterations: int, dklen: int | None = None
) -> bytes:
    """Stands in for hashlib.pbkdf2_hmac: 64 bytes by which equal questions are known as equal."""
    asked = repr((hash_name, password, salt, iterations, dklen)).encode()
    return hmac.digest(_KEY, asked, "sha512")


def lock_before_writing() -> None:
    """Make each write transaction of Ironic take SQLite's write lock as it begins."""
    from ironic.db.sqlalchemy import api
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    here = threading.local()
    session_for_write = api._session_for_write

    @contextmanager
    def marked() -> Iterator[Any]:
        here.writes = True
        try:
            with session_for_write() as session:
                yield session
        finally:
            here.writes = False

    @event.listens_for(Engine, "before_cursor_execute", retval=True)
    def begin(*asked: Any) -> tuple[str, Any]:
        _, _, statement, parameters, *_ = asked
        if statement == "BEGIN" and getattr(here, "writes", False):
            statement = "BEGIN IMMEDIATE"
        return statement, parameters

    api._session_for_write = marked


def ask_agents_often() -> None:
    """Before any other module of Ironic is loaded."""
    from ironic.conf import CONF

    CONF.set_default("command_wait_interval", LOOK_SECONDS, group="agent")
    CONF.set_default("command_wait_attempts", LOOKS, group="agent")


if __name__ == "__main__":
    hashlib.pbkdf2_hmac = fingerprint  # type: ignore[assignment]  # bytes are all it is given
    ask_agents_often()
    lock_before_writing()
    program = str(Path(sys.executable).with_name("ironic"))
    sys.argv[0] = program
    runpy.run_path(program, run_name="__main__")
