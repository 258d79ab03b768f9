"""What became of a claim or a node, and how long it took."""

from fastapi import APIRouter

from api.auth import Anyone, Insider
from api.parts import Here
from api.routes.nodes import find
from provisioning import timeline
from provisioning.timeline import Timeline

router = APIRouter(tags=["events"])


@router.get("/v1/claims/{name}/timeline")
def claim_timeline(name: str, caller: Anyone, parts: Here) -> Timeline:
    """A claim and its nodes while it held them; a claimer reads nothing of BMCs."""
    with parts.store.read() as session:
        claim = parts.desk.find(session, caller.looks_in, name)
        return timeline.of_claim(session, claim, caller.sees_all)


@router.get("/v1/nodes/{name}/timeline")
def node_timeline(name: str, caller: Insider, parts: Here) -> Timeline:
    """A node and its BMC, whoever had it."""
    with parts.store.read() as session:
        return timeline.of_node(session, find(session, name))
