"""The uid behind a unix socket, taken from the kernel."""

import asyncio
import socket
import struct

from uvicorn.protocols.http.h11_impl import H11Protocol

_UCRED = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


class PeerProtocol(H11Protocol):
    """Puts ("uid:<n>", pid) into scope["client"]: the process that connected, as it was then."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer: socket.socket = transport.get_extra_info("socket")
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, _ = _UCRED.unpack(raw)
        self.client = (f"uid:{uid}", pid)
