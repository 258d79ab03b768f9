"""How one can log in here: what a client must know before it has a token, and nothing else."""

from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from api.grants import KeystoneSettings, OidcSettings
from api.parts import Here

router = APIRouter(prefix="/v1/login-methods", tags=["login"])


class OidcLogin(BaseModel):
    """ca_pem: the provider's CA where clients may not know it. token: which one to send."""

    issuer: str
    client_id: str
    audience: str
    scopes: str
    token: Literal["id_token", "access_token"]
    ca_pem: str | None = None


class KeystoneLogin(BaseModel):
    """Send `X-Auth-Token` as to any OpenStack service."""

    auth_url: str
    ca_pem: str | None = None


class LoginMethods(BaseModel):
    """null: not here."""

    oidc: OidcLogin | None = None
    keystone: KeystoneLogin | None = None


@router.get("")
def show_login_methods(parts: Here) -> LoginMethods:
    """Public: a client learns here whom to ask for a token."""
    oidc, keystone = parts.federation.oidc, parts.federation.keystone
    return LoginMethods(
        oidc=_oidc(oidc.settings) if oidc else None,
        keystone=_keystone(keystone.settings) if keystone else None,
    )


def _oidc(told: OidcSettings) -> OidcLogin:
    return OidcLogin(
        issuer=told.issuer,
        client_id=told.client_id,
        audience=told.audience,
        scopes=told.scopes,
        token="access_token" if told.audience else "id_token",
        ca_pem=_pem(told.ca_file),
    )


def _keystone(told: KeystoneSettings) -> KeystoneLogin:
    return KeystoneLogin(auth_url=told.url, ca_pem=_pem(told.ca_file))


def _pem(ca_file: str) -> str | None:
    """None also where it cannot be read: `seed doctor` says so."""
    try:
        return Path(ca_file).read_text(encoding="ascii") if ca_file else None
    except (OSError, UnicodeDecodeError):
        return None
