"""The certificate of a Redfish BMC's own HTTPS service (DSP0268, CertificateService).

`web` has get(path) and post(path, data): sushy's Connector. The private key stays on the BMC.
"""

from typing import Any, Protocol

SERVICE = "/redfish/v1/CertificateService"
# DSP0268 demands them all of GenerateCSR. The CA reads none but the key.
SUBJECT = {
    "City": "-", "State": "-", "Country": "XX", "Organization": "Seed", "OrganizationalUnit": "BMC",
}  # fmt: skip


class Web(Protocol):
    def get(self, path: str) -> Any: ...  # noqa: ANN401
    def post(self, path: str, data: Any) -> Any: ...  # noqa: ANN401


def request_csr(web: Web, address: str) -> str:
    """A new key on the BMC, and its certificate request (PEM). KeyError: it cannot."""
    body = SUBJECT | {
        "CommonName": address,
        "AlternativeNames": [address],
        "CertificateCollection": {"@odata.id": _collection(web)},
    }
    return str(web.post(_action(web, "GenerateCSR"), data=body).json()["CSRString"])


def install(web: Web, pem: str) -> None:
    """Put this certificate in the place of the one that HTTPS shows now."""
    (member, *_) = web.get(_collection(web)).json()["Members"]
    body = {"CertificateString": pem, "CertificateType": "PEM", "CertificateUri": member}
    web.post(_action(web, "ReplaceCertificate"), data=body)


def _action(web: Web, name: str) -> str:
    actions = web.get(SERVICE).json()["Actions"]
    return str(actions[f"#CertificateService.{name}"]["target"])


def _collection(web: Web) -> str:
    """Where HTTPS has its certificates: Manager -> NetworkProtocol -> HTTPS."""
    (manager, *_) = web.get("/redfish/v1/Managers").json()["Members"]
    protocols = web.get(manager["@odata.id"]).json()["NetworkProtocol"]["@odata.id"]
    return str(web.get(protocols).json()["HTTPS"]["Certificates"]["@odata.id"])
