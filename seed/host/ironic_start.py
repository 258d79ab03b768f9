"""Starts Ironic. Copied beside ironic.conf; runs in the environment of Ironic, without ours.

Ironic 39.0.0 hashes a BMC's password with 600,000 rounds of PBKDF2 whenever it takes up a Redfish
connection, cached session or not (ironic/drivers/modules/redfish/utils.py, SessionCache): a quarter
of a second of CPU, some six times for each `manage` and once for each look at a server's power. The
result is part of a key of a dictionary in this process, is stored nowhere, and lies beside the
connection that holds the password itself. So a keyed hash does, with a key of this process alone.
It is the only use of PBKDF2 in Ironic's environment; a test sees to it that this stays so.
"""

import hashlib
import hmac
import runpy
import secrets
import sys
from pathlib import Path

_KEY = secrets.token_bytes(64)


def fingerprint(
    hash_name: str, password: bytes, salt: bytes, iterations: int, dklen: int | None = None
) -> bytes:
    """Stands in for hashlib.pbkdf2_hmac: 64 bytes by which equal questions are known as equal."""
    asked = repr((hash_name, password, salt, iterations, dklen)).encode()
    return hmac.digest(_KEY, asked, "sha512")


if __name__ == "__main__":
    hashlib.pbkdf2_hmac = fingerprint  # type: ignore[assignment]  # bytes are all it is given
    program = str(Path(sys.executable).with_name("ironic"))
    sys.argv[0] = program
    runpy.run_path(program, run_name="__main__")
