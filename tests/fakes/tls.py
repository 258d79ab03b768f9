"""TLS for servers of a test."""

import ssl
from pathlib import Path
from socketserver import TCPServer


def over_tls(server: TCPServer, certificate: Path, key: Path | None = None) -> ssl.SSLContext:
    """Its connections are TLS from now on; the context, for who asks clients for certificates.

    key: None where it is in the certificate's file. A handshake is the request's own thread's: a
    client that dies in it stops nobody else.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    return context
