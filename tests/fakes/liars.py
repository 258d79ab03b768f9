"""BMCs that answer nonsense, as a process of its own: python -m tests.fakes.liars TLS_DIR ADDRESS

TCP 443 says it is a Redfish service and then sends what is no JSON. UDP 623 answers the first
question of every client as IPMI does and then sends noise. Prints `ready`, and each login it saw.
"""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET, SOCK_DGRAM, socket

from tests.fakes.tls import over_tls

ROOT = (
    b'{"RedfishVersion": "1.6.0", "Id": "RootService", "Name": "Root", '
    b'"@odata.id": "/redfish/v1", "Systems": {"@odata.id": "/redfish/v1/Systems"}, '
    b'"Managers": {"@odata.id": "/redfish/v1/Managers"}}'
)
NOISE = b"\xff\xfe]]] this is no JSON {{{" + bytes(range(256))
RMCP = bytes.fromhex("0600ff07")
# Answer to Get Channel Authentication Capabilities (IPMI 2.0, 22.13), outside a session.
CAPABLE = RMCP + bytes(9) + bytes.fromhex("10 81 1c 63 20 04 38 00 0e 80 04 02 00 00 00 00 10")


class Liar(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Authorization"):
            sys.stdout.write("redfish login\n")
            sys.stdout.flush()
        body = ROOT if self.path.rstrip("/") == "/redfish/v1" else NOISE
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


def ipmi(address: str) -> None:
    known: set[object] = set()
    with socket(AF_INET, SOCK_DGRAM) as port:
        port.bind((address, 623))
        while True:
            _, client = port.recvfrom(2048)
            port.sendto(RMCP + b"\xde\xad\xbe\xef" * 6 if client in known else CAPABLE, client)
            known.add(client)


def main(tls: Path, redfish_address: str, ipmi_address: str) -> None:
    server = ThreadingHTTPServer((redfish_address, 443), Liar)
    over_tls(server, tls / "cert.pem", tls / "key.pem")
    threading.Thread(target=ipmi, args=(ipmi_address,), daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
