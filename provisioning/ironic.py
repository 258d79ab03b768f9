"""Typed face of Ironic's API; the only importer of openstacksdk.

Every call has a timeout; openstacksdk's default has none. Foreign errors are translated here.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import stamina
import structlog
from keystoneauth1 import exceptions as ks
from openstack import exceptions as os_exc
from openstack.connection import Connection
from pydantic import SecretStr

from provisioning import request_ids
from provisioning.errors import Conflict, IronicUnavailable, NotFound, SeedError

log = structlog.get_logger()

CALL_TIMEOUT = 60  # seconds; a deploy request with a config drive takes a few
# Ironic's own server resets a connection now and then under load (cheroot's backlog of 5).
_retried = stamina.retry(on=IronicUnavailable, attempts=4, timeout=30.0, wait_initial=0.2)
CLIENTS = 8  # at once: above, it resets connections all the time
MICROVERSION = "1.95"
FORGETTING = "being forgotten"  # the maintenance in which Ironic forgets any node
PAGE = 1000  # Ironic's own limit of one answer
FIELDS = (
    "uuid,name,driver,provision_state,target_provision_state,power_state,resource_class,last_error,"
    "maintenance,maintenance_reason,instance_uuid,reservation,inspection_finished_at,properties,"
    "extra,traits"
)
"""All that a list may be asked for and Node has: half the price of every field. Ironic 39 refuses
`updated_at` here with 400, and `allocation_uuid` with 500."""
SAME_MOMENT = timedelta(seconds=1)
"""Changes so close together are asked for again: one may be written after a later one was told."""


@dataclass(frozen=True, slots=True)
class Node:
    """One of Ironic's nodes, as it is now.

    allocation: its instance UUID, which is that of its allocation.
    updated_at: ISO 8601, of any change; empty: never changed, or one of a list, which says it not.
    """

    uuid: str
    name: str
    driver: str
    provision_state: str
    target: str
    power_state: str
    resource_class: str
    last_error: str
    maintenance: bool
    maintenance_reason: str
    allocation: str
    reservation: str
    inspected: bool
    properties: dict[str, Any]
    extra: dict[str, Any]
    updated_at: str
    inspected_at: str = ""  # when its last inspection ended well, in Ironic's words
    traits: tuple[str, ...] = ()
    fault: str = ""  # why Ironic itself put it into maintenance; empty: a person or Seed did
    raid_interface: str = ""  # not told by a list


class Ironic:
    """What Seed asks of Ironic. Every method is one call, safe to repeat."""

    def __init__(self, url: str, username: str, password: SecretStr) -> None:
        self._url = url
        self._username = username
        self._password = password
        self._kept: Connection | None = None
        self._turns = threading.BoundedSemaphore(CLIENTS)
        self.touched: dict[str, float] = {}
        """By UUID: when we last changed this node, time.monotonic(). What was read before is old.
        """

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        with self._turns, _translated(doing):
            yield

    @contextmanager
    def _touching(self, uuid: object, doing: str) -> Iterator[None]:
        """Errors as in _translated; after one nobody knows what came of it."""
        try:
            with self._asking(doing):
                yield
        finally:
            self.touched[str(uuid)] = time.monotonic()

    @property
    def _baremetal(self) -> Any:  # noqa: ANN401
        if self._kept is None:
            self._kept = Connection(
                auth_type="http_basic",
                auth={
                    "endpoint": self._url,
                    "username": self._username,
                    "password": self._password.get_secret_value(),
                },
                baremetal_endpoint_override=self._url,
                baremetal_default_microversion=MICROVERSION,
                api_timeout=CALL_TIMEOUT,
                app_name="seed",
            )
            self._kept.session.additional_headers = request_ids.Headers()
        return self._kept.baremetal

    def nodes(self) -> list[Node]:
        found: list[Node] = []
        while True:
            page = self.page(found[-1].uuid if found else "")
            found += page
            if len(page) < PAGE:
                return found

    @_retried
    def page(self, after: str = "") -> list[Node]:
        """The next PAGE of all nodes; fewer: the last. `after`: the last one's UUID of before.

        Raises NotFound where that one is gone.
        """
        marker = f"&marker={after}" if after else ""
        with self._asking("listing the nodes"):
            return [
                _node(n) for n in self._get(f"/nodes?limit={PAGE}&fields={FIELDS}{marker}")["nodes"]
            ]

    @_retried
    def uuids(self, after: str = "") -> list[str]:
        """Those of the next PAGE of all nodes; else as `page`."""
        marker = f"&marker={after}" if after else ""
        with self._asking("listing the nodes"):
            found = self._get(f"/nodes?limit={PAGE}&fields=uuid{marker}")["nodes"]
            return [n["uuid"] for n in found]

    @_retried
    def changes(self, since: datetime, expected: int = 0) -> list[Node]:
        """Nodes that changed at `since` (Ironic's time) or later, the last one first.

        expected: about how many there will be. What is new and was never changed is not among
        them, and neither is what was deleted.
        """
        limit = min(PAGE, max(2, expected))
        with self._asking("listing what changed"):
            while True:
                query = f"limit={limit}&sort_key=updated_at&sort_dir=desc"
                page = [_node(n) for n in self._get(f"/nodes/detail?{query}")["nodes"]]
                oldest = since - SAME_MOMENT
                young = [n for n in page if n.updated_at and _at(n) >= oldest]
                if len(young) < limit or limit == PAGE:
                    return young
                # From the top: a marker that changes meanwhile would lead astray.
                limit = min(PAGE, 4 * limit)

    @_retried
    def node(self, uuid: object) -> Node:
        with self._asking(f"reading node {uuid}"):
            return _node(self._get(f"/nodes/{uuid}"))

    def _get(self, path: str) -> dict[str, Any]:
        """The SDK's own session and errors, and the whole body: its Node leaves fields out."""
        answer = self._baremetal.get(path, microversion=MICROVERSION)
        os_exc.raise_from_response(answer)
        return dict(answer.json())

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Something new. 409 says that it is there, so it is not asked again as the SDK would."""
        answer = self._baremetal.post(
            path, json=body, microversion=MICROVERSION, retriable_status_codes=[503]
        )
        os_exc.raise_from_response(answer)
        return dict(answer.json())

    def _put(self, path: str, body: dict[str, Any]) -> None:
        """As the SDK does it, without its second request for the node as it is afterwards."""
        answer = self._baremetal.put(path, json=body, microversion=MICROVERSION)
        os_exc.raise_from_response(answer)

    def find_node(self, uuid: object) -> Node | None:
        try:
            return self.node(uuid)
        except NotFound:
            return None

    @_retried
    def create_node(self, **fields: Any) -> tuple[Node, bool]:
        """(the node, was it made now). `fields` are Ironic's; `uuid` finds an earlier call's."""
        try:
            with self._touching(fields["uuid"], f"enrolling node {fields['name']}"):
                return _node(self._post("/nodes", fields)), True
        except Conflict:
            if found := self.find_node(fields["uuid"]):
                return found, False
            raise

    @_retried
    def delete_node(self, uuid: object) -> None:
        """Ironic forgets it, whatever state it is in but a working one. Nothing is powered."""
        if self.find_node(uuid) is None:
            return
        self.set_maintenance(uuid, True, FORGETTING)
        with self._touching(uuid, f"forgetting node {uuid}"):
            self._baremetal.delete_node(str(uuid), ignore_missing=True)

    @_retried
    def patch_node(self, uuid: object, changes: dict[str, Any]) -> None:
        """Replace whole fields: {"/instance_info": {...}}."""
        patch = [{"op": "add", "path": path, "value": value} for path, value in changes.items()]
        with self._touching(uuid, f"changing node {uuid}"):
            # Not by the SDK's own method: it reads the answer into an object, which costs more CPU
            # than the request.
            os_exc.raise_from_response(
                self._baremetal.patch(f"/nodes/{uuid}", json=patch, microversion=MICROVERSION)
            )

    @_retried
    def set_traits(self, uuid: object, traits: list[str]) -> None:
        """These and no others."""
        with self._touching(uuid, f"changing the traits of node {uuid}"):
            self._baremetal.set_node_traits(str(uuid), traits)

    @_retried
    def set_maintenance(self, uuid: object, on: bool, reason: str = "") -> None:
        with self._touching(uuid, f"changing maintenance of {uuid}"):
            if on:
                self._baremetal.set_node_maintenance(str(uuid), reason)
            else:
                self._baremetal.unset_node_maintenance(str(uuid))

    @_retried
    def ports(self, uuid: object) -> dict[str, bool]:
        """MAC -> may it network-boot."""
        with self._asking(f"reading the ports of {uuid}"):
            found = self._get(f"/ports?node={uuid}&fields=address,pxe_enabled")["ports"]
            return {p["address"].lower(): bool(p["pxe_enabled"]) for p in found}

    @_retried
    def create_port(self, uuid: object, mac: str, **more: Any) -> None:
        try:
            with self._asking(f"adding port {mac}"):
                self._post("/ports", {"node_uuid": str(uuid), "address": mac, **more})
        except Conflict:
            if mac not in self.ports(uuid):
                raise

    @_retried
    def inventory(self, uuid: object) -> dict[str, Any] | None:
        """What the ramdisk saw ("inventory", "plugin_data"), or None before any inspection."""
        try:
            with self._asking(f"reading the inventory of {uuid}"):
                return self._get(f"/nodes/{uuid}/inventory")
        except NotFound:
            return None

    def provision(
        self,
        uuid: object,
        target: str,
        config_drive: Any = None,  # noqa: ANN401
        steps: Sequence[dict[str, Any]] = (),
    ) -> None:
        """One of Ironic's targets: manage, inspect, provide, active, deleted, abort, adopt.

        steps: deploy steps beside those of the node's interfaces; only for "active".
        """
        asked: dict[str, Any] = {"target": target}
        if config_drive:
            asked["configdrive"] = config_drive
        if steps:
            asked["deploy_steps"] = list(steps)
        with self._touching(uuid, f"asking {target} of node {uuid}"):
            self._put(f"/nodes/{uuid}/states/provision", asked)

    def power(self, uuid: object, target: str) -> None:
        """ "power on", "power off" or "rebooting"."""
        with self._touching(uuid, f"asking {target} of node {uuid}"):
            self._put(f"/nodes/{uuid}/states/power", {"target": target})

    @_retried
    def allocate(self, name: str, node_uuid: object, resource_class: str) -> tuple[str, str]:
        """Lock this node under `name`; (state, last error). The first call makes it."""
        wanted = {
            "name": name, "resource_class": resource_class, "candidate_nodes": [str(node_uuid)],
        }  # fmt: skip
        with self._touching(node_uuid, f"allocating {name}"):
            try:
                found = self._post("/allocations", wanted)
            except os_exc.ConflictException:  # by an earlier call
                found = self._get(f"/allocations/{name}")
        return locked(node_uuid, found["state"], found["node_uuid"], found["last_error"])

    @_retried
    def allocated(self, resource_class: str) -> dict[str, tuple[str, str, str]]:
        """name -> (state, its node's UUID, last error), of all of this class: one call for many."""
        found: list[dict[str, Any]] = []
        fields = "uuid,name,state,node_uuid,last_error"
        with self._asking("listing the allocations"):
            while True:
                marker = f"&marker={found[-1]['uuid']}" if found else ""
                query = f"resource_class={resource_class}&fields={fields}&limit={PAGE}{marker}"
                page = self._get(f"/allocations?{query}")["allocations"]
                found += page
                if len(page) < PAGE:
                    break
        return {
            a["name"]: (a["state"], a["node_uuid"] or "", a["last_error"] or "")
            for a in found
            if a["name"]
        }

    @_retried
    def drop_allocation(self, name: str) -> None:
        with self._asking(f"dropping allocation {name}"):
            self._baremetal.delete_allocation(name, ignore_missing=True)


def locked(wanted: object, state: str, node_uuid: str, error: str | None) -> tuple[str, str]:
    """(state, last error) of an allocation that is to lock the node `wanted`."""
    if state == "active" and node_uuid != str(wanted):
        return "error", "the allocation of an earlier choice still locks another node"
    return str(state), str(error or "")


def _node(n: dict[str, Any]) -> Node:
    return Node(
        uuid=n["uuid"],
        name=n["name"] or "",
        driver=n["driver"] or "",
        provision_state=n["provision_state"] or "",
        target=n["target_provision_state"] or "",
        power_state=n["power_state"] or "",
        resource_class=n["resource_class"] or "",
        last_error=n["last_error"] or "",
        maintenance=bool(n["maintenance"]),
        maintenance_reason=n["maintenance_reason"] or "",
        allocation=n["instance_uuid"] or "",
        reservation=n["reservation"] or "",
        inspected=bool(n["inspection_finished_at"]),
        properties=dict(n["properties"] or {}),
        extra=dict(n["extra"] or {}),
        updated_at=n.get("updated_at") or "",
        inspected_at=n["inspection_finished_at"] or "",
        traits=tuple(sorted(n.get("traits") or ())),
        fault=n.get("fault") or "",
        raid_interface=n.get("raid_interface") or "",
    )


def _at(node: Node) -> datetime:
    return datetime.fromisoformat(node.updated_at)


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    """Turn foreign errors into ours, once, at the border. The cause stays in the chain."""
    try:
        yield
    except os_exc.HttpException as err:
        if not isinstance(err, os_exc.NotFoundException):  # often just the answer to a question
            log.info("ironic.refused", doing=doing, status=err.status_code, ironic=err.request_id)
        raise _ours(err, doing) from err
    except (ks.ClientException, os_exc.SDKException) as err:
        raise _ours(err, doing) from err


def _ours(err: Exception, doing: str) -> SeedError:
    match err:
        case os_exc.NotFoundException():
            return NotFound(
                f"Ironic knows no such thing while {doing}", "See what there is: `seed node list`."
            )
        case os_exc.ConflictException() | os_exc.BadRequestException():
            return Conflict(
                f"Ironic refused while {doing}", "Look at the node: `seed node show NAME`."
            )
    return IronicUnavailable(
        f"Ironic did not answer as it should while {doing}",
        "See why: `seed status`, then `seed logs ironic`.",
    )
