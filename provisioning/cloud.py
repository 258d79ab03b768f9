"""Another cloud, as clouds.yaml names it: its Ironic is only read, its Keystone logs people in."""

from datetime import datetime
from typing import Any

from keystoneauth1 import exceptions as ks
from openstack import exceptions as os_exc
from openstack.config import OpenStackConfig
from openstack.connection import Connection
from pydantic import ValidationError

from provisioning import hostnames
from provisioning.adoption import Foreign
from provisioning.driver_info import bmc_of
from provisioning.errors import HostError, Invalid, IronicUnavailable, Unauthenticated
from provisioning.identity import address_key

CALL_TIMEOUT = 60  # seconds
MICROVERSION = "1.48"  # Stein: the oldest with every field that is read
PAGE = 500


def nodes(cloud: str) -> list[Foreign]:
    """Every node of that Ironic. Raises Invalid for its name, IronicUnavailable for its silence."""
    try:
        # Bifrost's "none" and "http_basic", Keystone: whatever the file says.
        baremetal = Connection(cloud=cloud, api_timeout=CALL_TIMEOUT, app_name="seed").baremetal
        ports = _all(baremetal, "ports")
        return _addressed([_foreign(n, ports) for n in _all(baremetal, "nodes")])
    except (os_exc.ConfigException, ks.MissingRequiredOptions) as err:
        raise Invalid(
            f"no cloud {cloud!r} is told in clouds.yaml",
            "Look where it lies: OS_CLIENT_CONFIG_FILE=/path/clouds.yaml, or ./clouds.yaml.",
        ) from err
    except (ks.ClientException, os_exc.SDKException, KeyError, ValueError) as err:
        raise IronicUnavailable(
            f"the Ironic of {cloud!r} did not answer as it should",
            f"See what it tells you: `OS_CLOUD={cloud} baremetal node list`.",
        ) from err


def token(cloud: str | None) -> tuple[str, datetime | None]:
    """(a token of Keystone's, its end). cloud: None: as the OS_ variables of the environment say.

    Raises Invalid for what they lack, Unauthenticated and HostError as Keystone answers.
    """
    try:
        connection = Connection(
            config=OpenStackConfig().get_one(cloud=cloud, app_name="seed"),
            api_timeout=CALL_TIMEOUT,
        )
        access = connection.session.auth.get_access(connection.session)
    except (os_exc.ConfigException, ks.MissingRequiredOptions, AttributeError) as err:
        raise Invalid(
            "nothing says how to log in to OpenStack",
            "export OS_CLOUD=NAME, a cloud of clouds.yaml, or source its openrc file.",
        ) from err
    except ks.Unauthorized as err:
        raise Unauthenticated(
            "Keystone refuses this user and password", "openstack token issue"
        ) from err
    except (ks.ClientException, os_exc.SDKException) as err:
        raise HostError("Keystone did not answer as it should", "openstack token issue") from err
    return access.auth_token, access.expires


def _addressed(nodes: list[Foreign]) -> list[Foreign]:
    """BMCs that it calls by host names, by the addresses those lead to from here."""
    names = {n.bmc_address for n in nodes if n.bmc_address and not address_key(n.bmc_address)}
    of = {name: answer.address or name for name, answer in hostnames.resolved(names).items()}
    return [
        n.model_copy(update={"bmc_address": of.get(n.bmc_address, n.bmc_address)}) for n in nodes
    ]


def _all(baremetal: Any, noun: str) -> list[dict[str, Any]]:  # noqa: ANN401
    found: list[dict[str, Any]] = []
    while True:
        marker = f"&marker={found[-1]['uuid']}" if found else ""
        path = f"/{noun}/detail?limit={PAGE}{marker}"
        answer = baremetal.get(path, microversion=MICROVERSION)
        os_exc.raise_from_response(answer)
        page = answer.json()[noun]
        found += page
        if not page:  # an Ironic may give less than was asked for
            return found


def _foreign(node: dict[str, Any], ports: list[dict[str, Any]]) -> Foreign:
    try:
        address = bmc_of(node.get("driver_info")).get("bmc_address", "")
        mine = [p for p in ports if p["node_uuid"] == node["uuid"]]
        plain = {k: v for k, v in node.items() if v is not None}
        return Foreign.model_validate({**plain, "bmc_address": address, "ports": mine})
    except (ValidationError, Invalid) as err:
        raise ValueError(f"node {node.get('uuid')}") from err
