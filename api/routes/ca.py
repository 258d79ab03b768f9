"""The certificate authority that signs our listeners, for remote callers."""

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from api.auth import Anyone
from api.parts import Here
from provisioning.errors import NotFound

router = APIRouter(prefix="/v1/ca", tags=["ca"])


class Pem(PlainTextResponse):
    media_type = "application/x-pem-file"
    charset = "ascii"


@router.get("", response_class=Pem)
def show_ca(caller: Anyone, parts: Here) -> Pem:
    """The certificate authority of this Seed as PEM. Put it where the caller's TLS looks for it."""
    try:
        pem = parts.ca_pem.read_text(encoding="ascii")
    except FileNotFoundError as error:
        raise NotFound("there is no certificate authority yet", "seed init") from error
    return Pem(pem)
