"""What others' identities are worth here: the settings of single sign-on, and what they grant.

Light on purpose: `seed.settings` reads these tables, so every verb of the CLI imports this module.
"""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.roles import Role

HTTPS = r"^(https://[^\s/?#@]+(/[^\s?#@]*)?)?$"
"""An address without user, query or fragment. Never http: tokens and keys travel over it."""


class Grant(BaseModel):
    """roles: none contains another. project: one of Seed's; empty: these roles need none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    roles: tuple[Role, ...] = Field(min_length=1)
    project: str = Field(default="", max_length=63)


class GroupGrant(Grant):
    """For everybody of one of the provider's groups."""

    group: str = Field(min_length=1)


class ProjectGrant(Grant):
    """For everybody who has one role in one of Keystone's projects."""

    keystone_project: str = Field(min_length=1)
    """Its id, or DOMAIN/NAME: names are unique within a domain only."""
    keystone_role: str = Field(min_length=1)


class OidcSettings(BaseModel):
    """An OpenID Connect provider: Keycloak, Dex, Entra ID, Okta, Authentik, ..."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str = Field(default="", pattern=HTTPS)
    """Exactly as its tokens name it (`iss`), a closing slash included; empty: there is none."""
    client_id: str = ""
    """Seed's client there, a public one (no secret): `seed login --oidc` names it."""
    audience: str = ""
    """What `aud` must contain. Empty: client_id, and ID tokens are sent; else access tokens are."""
    ca_file: str = ""
    """Its CA, where the system does not know it."""
    scopes: str = "openid profile"
    """What the CLI asks for. Some providers tell groups only for one more, such as `groups`."""
    name_claim: str = "preferred_username"
    """Who the log says it was. Take `sub` where people may change their own user name."""
    groups_claim: str = "groups"
    """A list of strings, or one; `realm_access.roles` is Keycloak's list of roles."""
    project_claim: str = ""
    """A claim that names one of Seed's projects, for grants that name none; empty: not used."""
    grants: tuple[GroupGrant, ...] = ()
    """Nobody gets anything that is not here."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.issuer and not self.client_id:
            raise ValueError("issuer and client_id go together")
        if not self.project_claim:
            _claimers_have_a_project(self.grants)
        return self


class KeystoneSettings(BaseModel):
    """An OpenStack Identity service, API version 3."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(default="", pattern=HTTPS)
    """https://keystone.example.org:5000/v3; empty: there is none."""
    ca_file: str = ""
    """Its CA, where the system does not know it."""
    credentials_file: Path = Path("/etc/seed/keystone.toml")
    """Seed's own user there, with the role `service`; seed-api's, 0600."""
    cache_seconds: int = Field(default=60, ge=0, le=60)
    """How long an answer about a token is believed: so long a revoked one may still work."""
    grants: tuple[ProjectGrant, ...] = ()
    """Nobody gets anything that is not here."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        _claimers_have_a_project(self.grants)
        return self


def _claimers_have_a_project(grants: tuple[Grant, ...]) -> None:
    if any(Role.CLAIMER in grant.roles and not grant.project for grant in grants):
        raise ValueError("a grant of the role claimer names a project")
