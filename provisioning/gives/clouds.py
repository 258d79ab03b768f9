"""clouds.yaml of the overcloud: where Keystone and Barbican answer, for people and programs.

Keys as openstacksdk 4.22 reads them (doc/source/user/config/configuration.rst; SERVICE_endpoint_
override of its `_get_config`). Ports and paths are the services' own: Keystone 5000 /v3, Barbican
9311 (openstack/kolla-ansible 22.2.0 ansible/group_vars/all/{keystone,barbican}.yml). Barbican is in
the catalogue, too; the override is for who has no catalogue yet, and only where it was asked for.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr, StringConstraints

from provisioning import gives
from provisioning.gives import Give, Wish
from provisioning.installers import OvercloudFacts
from provisioning.targets import PartSpec

KEYSTONE: Final = 5000
BARBICAN: Final = 9311
Word = Annotated[str, StringConstraints(pattern=r"^[^\s\x00-\x1f]{1,255}$")]
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:-]{1,253}$")]


class Clouds(Wish):
    """internal, external: host names; empty: the VIPs. tls: of these; cacert: a path on the machine
    that reads the file. Of a login either a password or an application credential is given; empty:
    none is written, and clouds.yaml's reader takes it from its environment.
    """

    region: Word = "RegionOne"
    internal: Host | None = None
    external: Host | None = None
    tls: tuple[Literal["internal", "external"], ...] = ("external", "internal")
    cacert: Word | None = None
    username: Word = "admin"
    project: Word = "admin"
    domain: Word = "Default"
    password: SecretStr | None = None
    application_credential_id: Word | None = None
    application_credential_secret: SecretStr | None = Field(default=None)


INTERFACES: Final[dict[str, Literal["internal", "external"]]] = {
    "internal": "internal",
    "public": "external",
}
"""Keystone's word -> which VIP."""


def lacks(facts: OvercloudFacts) -> str:
    wish = gives.wish(facts, "clouds", Clouds)
    if not (facts.vips.get("internal") or wish.internal):
        return "its internal address is not known"
    if bool(wish.application_credential_id) != bool(wish.application_credential_secret):
        return "an application credential is an id and a secret: one is missing"
    return ""


def files(facts: OvercloudFacts) -> list[PartSpec]:
    wish = gives.wish(facts, "clouds", Clouds)
    clouds = {
        facts.name if interface == "public" else f"{facts.name}-{interface}": cloud
        for interface, vip in INTERFACES.items()
        if (cloud := _cloud(facts, wish, interface, vip))
    }
    text = gives.as_yaml(facts, {"clouds": clouds}, hint="~/.config/openstack/clouds.yaml")
    found = [gives.part("clouds.yaml", text)]
    if secret := _secret(wish):
        told = {"clouds": {name: {"auth": secret} for name in clouds}}
        hint = "~/.config/openstack/secure.yaml"
        found.append(gives.part("secure.yaml", gives.as_yaml(facts, told, hint=hint), gives.SECRET))
    return found


def _cloud(
    facts: OvercloudFacts, wish: Clouds, interface: str, vip: Literal["internal", "external"]
) -> dict[str, Any]:
    host = (wish.internal if vip == "internal" else wish.external) or facts.vips.get(vip, "")
    if not host:
        return {}
    scheme = "https" if vip in wish.tls else "http"
    base = f"{scheme}://[{host}]" if ":" in host else f"{scheme}://{host}"
    cloud: dict[str, Any] = {
        "auth": {"auth_url": f"{base}:{KEYSTONE}/v3"} | _who(wish),
        "region_name": wish.region,
        "interface": interface,
        "identity_api_version": "3",
    }
    if wish.application_credential_id:
        cloud["auth_type"] = "v3applicationcredential"
    if wish.cacert and scheme == "https":
        cloud["cacert"] = wish.cacert
    if "barbican" in facts.services:
        cloud["key_manager_endpoint_override"] = f"{base}:{BARBICAN}"
    return cloud


def _who(wish: Clouds) -> dict[str, str]:
    if wish.application_credential_id:
        return {"application_credential_id": wish.application_credential_id}
    return {
        "username": wish.username,
        "project_name": wish.project,
        "user_domain_name": wish.domain,
        "project_domain_name": wish.domain,
    }


def _secret(wish: Clouds) -> dict[str, str]:
    if wish.application_credential_secret:
        return {
            "application_credential_secret": wish.application_credential_secret.get_secret_value()
        }
    return {"password": wish.password.get_secret_value()} if wish.password else {}


PLUGIN = Give("clouds", "clouds.yaml with Keystone and Barbican of the overcloud", files, lacks)
