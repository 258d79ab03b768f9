"""What the reconciler makes of nodes that somebody changed by break-glass: docs/break-glass.md.

Real Ironic with fake-hardware, a real reconciler process, and the API's own /baremetal in between.
"""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlmodel import select

from api.app import create_app
from api.parts import Door, Parts
from provisioning.claims import Desk
from provisioning.errors import NoCapacity
from provisioning.ironic import Node
from provisioning.models import Bmc, ClaimSpec, Event, Order
from provisioning.secrets import Sealer
from provisioning.states import ClaimState, OrderKind
from tests.fakes.crashing import resolved
from tests.integration.test_crashes import KEY, NODES, Site, _no_time, a_site, accept_all

WHY = "what does Seed make of it, ticket 4711"


class Hands:
    """Root on this machine, with break-glass open."""

    def __init__(self, site: Site) -> None:
        told = json.loads((site.folder / "store.json").read_text())
        self.site = site
        self.parts = Parts(
            store=site.store,
            sealer=Sealer(site.folder / "master.pub"),
            ironic_url=told["ironic"],
            ironic_user="seed-reconciler",
            ironic_password=SecretStr(told["password"]),
            image_dir=site.folder,
            ca_pem=site.folder / "ca.pem",
        )
        assert self._ask("POST", "/v1/break-glass", {"why": WHY}).status_code == 201

    def _ask(self, method: str, path: str, body: Any) -> Any:
        def ask() -> Any:
            headers = {"x-openstack-ironic-api-version": "1.95"}
            app = create_app(self.parts, Door.LOCAL)  # its client of Ironic ends with each
            with TestClient(app, client=("uid:0", 1)) as http:
                return http.request(method, path, json=body, headers=headers)

        return self.site.inside(ask)

    def put(self, path: str, **body: Any) -> None:
        answer = self._ask("PUT", f"/baremetal/v1/nodes/{path}", body)
        assert answer.status_code == 202, answer.text

    def end_maintenance(self, name: str) -> None:
        path = f"/baremetal/v1/nodes/{name}/maintenance"
        assert self._ask("DELETE", path, None).status_code == 202


def node(site: Site, name: str) -> Node:
    return next(n for n in site.inside(site.ironic.nodes) if n.name == name)


def bmc(site: Site, name: str) -> Bmc:
    with site.store.read() as session:
        return session.exec(select(Bmc).where(Bmc.node_name == name)).one()


@pytest.mark.timeout(600)
def test_what_seed_makes_of_nodes_changed_by_hand() -> None:
    with a_site() as site:
        accept_all(site)
        site.until("enrolled and inspected", lambda: site.states() == ["manageable"] * NODES)
        for each in site.inside(site.ironic.nodes):
            site.inside(lambda uuid=each.uuid: site.ironic.power(uuid, "power off"))
        site.provide()
        site.until("available", site.all_free)
        desk = Desk(site.store, site.ironic, resolved, undo=_no_time())
        spec = ClaimSpec(name="web", count=1, image="debian", ssh_keys=[KEY])
        site.inside(lambda: desk.request(spec, "default", "test"))

        def active() -> bool:
            site.prove()
            return site.claim("web").state is ClaimState.ACTIVE

        site.until("active", active)
        held = next(n for n in site.inside(site.ironic.nodes) if n.provision_state == "active").name
        kept, moved = sorted({"fake-1", "fake-2", "fake-3"} - {held})
        hands = Hands(site)

        # A node of a claim, switched off and on: Seed does not mind its power, the claim goes on.
        hands.put(f"{held}/states/power", target="power on")
        hands.put(f"{held}/states/power", target="power off")
        site.until("off", lambda: node(site, held).power_state == "power off")

        # A free node in maintenance: it stays there, and no claim gets it.
        hands.put(f"{kept}/maintenance", reason="new fan")
        site.until("seen in maintenance", lambda: site.in_maintenance() == {kept})
        two = ClaimSpec(name="two", count=2, image="debian", ssh_keys=[KEY])
        with pytest.raises(NoCapacity) as full:
            site.inside(lambda: desk.request(two, "default", "test", insider=True))
        assert full.value.reasons[kept] == "it is in maintenance"

        # A free node taken out of the pool: cleaned, and offered again.
        hands.put(f"{moved}/states/provision", target="manage")
        site.until("cleaned", lambda: _cleaned_again(site, moved))

        # Out of the pool and in maintenance: Seed waits for a person, and says so.
        hands.put(f"{kept}/states/provision", target="manage")
        site.until("stuck", lambda: bmc(site, kept).problem.endswith("is in maintenance: new fan"))
        assert node(site, kept).maintenance_reason == "new fan"
        assert node(site, kept).provision_state == "manageable"
        hands.end_maintenance(kept)
        site.until("free again", lambda: node(site, kept).provision_state == "available")
        site.until("no problem", lambda: not bmc(site, kept).problem)

        # All that time the claim had its node, and its power was left as the hand left it.
        assert site.claim("web").state is ClaimState.ACTIVE
        assert node(site, held).power_state == "power off"
        with site.store.read() as session:
            called = session.exec(select(Event).where(Event.kind == "break-glass.called")).all()
        assert {event.who for event in called} == {"root@local"}
        assert len(called) == 6

        # The server of a claim, undeployed: the claim is released as ever, and nothing is lost.
        hands.put(f"{held}/states/provision", target="deleted")
        site.until("cleaned", lambda: node(site, held).provision_state == "available")
        assert site.claim("web").state is ClaimState.ACTIVE
        plan = site.inside(lambda: desk.plan_release("default", "web"))
        site.inside(lambda: desk.release("default", "web", plan.hash, "test", at_once=True))
        site.until("released", lambda: site.claim("web").state is ClaimState.RELEASED)
        site.until("all free", site.all_free)


def _cleaned_again(site: Site, name: str) -> bool:
    """By an order of Seed's, the second one: the first was for its first way into the pool."""
    return len(_cleanings(site, name)) == 2 and node(site, name).provision_state == "available"


def _cleanings(site: Site, name: str) -> list[Order]:
    with site.store.read() as session:
        uuid = bmc(site, name).node_uuid
        wanted = (Order.node_uuid == uuid, Order.kind == OrderKind.CLEAN)
        return list(session.exec(select(Order).where(*wanted)).all())
