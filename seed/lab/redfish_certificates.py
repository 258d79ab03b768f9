"""CertificateService of a Redfish BMC (DSP0268): a request with a key of its own, and a new one.

Runs in the `lab` environment, which has no library for certificates: Debian's openssl does it.
"""

import ssl
import subprocess
from pathlib import Path
from typing import Any

from flask import Response, request

from seed.lab.redfish_services import answer, problem

SERVICE = "/redfish/v1/CertificateService"


class Certificates:
    """The HTTPS certificate in `directory`: cert.pem and key.pem, and new.key of a request."""

    def __init__(self, directory: Path, manager: str, address: str) -> None:
        self.directory = directory
        self.address = address
        self.protocols = f"/redfish/v1/Managers/{manager}/NetworkProtocol"
        self.collection = f"{self.protocols}/HTTPS/Certificates"
        self.context: ssl.SSLContext | None = None

    def answer_first(self) -> Response | None:
        """Before every request: the emulator has a CertificateService that knows none of this."""
        actions = f"{SERVICE}/Actions/CertificateService"
        views = {
            ("GET", SERVICE): self.service,
            ("GET", self.protocols): self.network_protocol,
            ("GET", self.collection): self.certificates,
            ("GET", f"{self.collection}/1"): self.certificate,
            ("POST", f"{actions}.GenerateCSR"): self.generate_csr,
            ("POST", f"{actions}.ReplaceCertificate"): self.replace,
        }
        view = views.get((request.method, request.path.rstrip("/")))
        return view() if view else None

    def service(self) -> Response:
        actions = {
            f"#CertificateService.{name}": {
                "target": f"{SERVICE}/Actions/CertificateService.{name}"
            }
            for name in ("GenerateCSR", "ReplaceCertificate")
        }
        return answer(
            {
                "@odata.type": "#CertificateService.v1_0_3.CertificateService",
                "@odata.id": SERVICE,
                "Id": "CertificateService",
                "Name": "Certificate Service",
                "Actions": actions,
            }
        )

    def network_protocol(self) -> Response:
        https = {"ProtocolEnabled": True, "Port": 443}
        https["Certificates"] = {"@odata.id": self.collection}  # type: ignore[assignment]
        return answer(
            {
                "@odata.type": "#ManagerNetworkProtocol.v1_4_0.ManagerNetworkProtocol",
                "@odata.id": self.protocols,
                "Id": "NetworkProtocol",
                "Name": "Manager Network Protocol",
                "HTTPS": https,
            }
        )

    def certificates(self) -> Response:
        return answer(
            {
                "@odata.type": "#CertificateCollection.CertificateCollection",
                "@odata.id": self.collection,
                "Name": "Certificate Collection",
                "Members@odata.count": 1,
                "Members": [{"@odata.id": f"{self.collection}/1"}],
            }
        )

    def certificate(self) -> Response:
        return answer(
            {
                "@odata.type": "#Certificate.v1_1_0.Certificate",
                "@odata.id": f"{self.collection}/1",
                "Id": "1",
                "Name": "HTTPS Certificate",
                "CertificateType": "PEM",
                "CertificateString": (self.directory / "cert.pem").read_text(),
            }
        )

    def generate_csr(self) -> Response:
        """GenerateCSR: a new key each time; the last one counts."""
        body: dict[str, Any] = request.get_json(silent=True, force=True) or {}
        if body.get("CertificateCollection") != {"@odata.id": self.collection}:
            return problem(400, "ActionParameterMissing", "CertificateCollection is not known.")
        key = self.directory / "new.key"
        argv = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-keyout", str(key), "-subj", f"/CN={self.address}"]  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
        key.chmod(0o600)
        return answer({"CSRString": done.stdout, "CertificateCollection": {}})

    def replace(self) -> Response:
        """ReplaceCertificate: shown from the next connection on."""
        body: dict[str, Any] = request.get_json(silent=True, force=True) or {}
        fresh, key = self.directory / "new.pem", self.directory / "new.key"
        fresh.write_text(str(body.get("CertificateString", "")))
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(fresh, key)
        except (OSError, ssl.SSLError):
            return problem(400, "PropertyValueError", "The certificate does not fit the last CSR.")
        key.replace(self.directory / "key.pem")
        fresh.replace(self.directory / "cert.pem")
        if self.context:
            self.context.load_cert_chain(self.directory / "cert.pem", self.directory / "key.pem")
        return Response(status=204)
