"""Asking an address whether it is a Redfish service, without a login."""

import asyncio
import functools
import re
import socket
import ssl

from provisioning.bmc import host

PORT = 443
ROOT_CAP = 256 * 1024  # bytes of a service root; a lying BMC could send for ever
HEAD_CAP = 16 * 1024
TAIL = 64  # bytes kept of the last piece: a word may lie across two
ROOT_ASKED = (
    b"GET /redfish/v1/ HTTP/1.1\r\nHost: %b\r\nAccept: application/json\r\n"
    b"OData-Version: 4.0\r\nConnection: close\r\n\r\n"
)
_CHUNK_SIZE = re.compile(rb"\r\n[0-9A-Fa-f]{1,8}\r\n")  # may stand in the middle of a word
# SSDP (DSP0266, 10.9.2): who is a Redfish service says so to the asker.
REDFISH_URN = b"urn:dmtf-org:service:redfish-rest:1"
SEARCH = (
    b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: '
    + REDFISH_URN
    + b"\r\n\r\n"
)


async def certificate_of_redfish(address: str, line: socket.socket | None) -> bytes | None:
    """The certificate (DER) of who tells a Redfish version by `GET /redfish/v1/` without a login.

    BMCs sign their own, and nothing secret is sent here. No HTTP library: thousands are asked.
    """
    where = {"sock": line} if line else {"host": address, "port": PORT}
    reader, writer = await asyncio.open_connection(
        **where,
        ssl=_anybody(),
        server_hostname="",
        limit=HEAD_CAP,
    )
    try:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.write(ROOT_ASKED % host(address).encode())
        return der if await _tells_a_version(reader) else None
    finally:
        writer.transport.abort()


async def _tells_a_version(reader: asyncio.StreamReader) -> bool:
    status = (await reader.readline()).split()
    if len(status) < 2 or status[1] != b"200":
        return False
    size, window = 0, b""
    while size < ROOT_CAP:
        piece = await reader.read(ROOT_CAP)
        if not piece:
            return False
        size += len(piece)
        window = window[-TAIL:] + piece
        if b'"RedfishVersion"' in _CHUNK_SIZE.sub(b"", window):
            return True
    return False


@functools.cache
def _anybody() -> ssl.SSLContext:
    # Not create_default_context(): it loads the machine's CAs, 20 ms each time.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
