"""One cluster as people see it, and how it is waited for."""

import time
from typing import Any, Final

from seed import show, when
from seed.client import Seed, Stuck, TooLong, Unavailable
from seed.commands.door import err

MEMBERS: Final = {
    "name": "MEMBER", "node": "NODE", "address": "ADDRESS", "far": "STATE", "now": "NOW",
}  # fmt: skip
SHOWN: Final = 80
"""Characters of what a member said; -o json has all of it."""
LOOK_SECONDS: Final = 1.0
PATIENCE: Final = 300.0
"""Seconds that Seed may be gone while a cluster is waited for."""


def follow(
    api: Seed, identity: str, state: str, timeout: float, noun: str = "cluster"
) -> dict[str, Any]:
    """Until it is in `state`. Raises Stuck, TooLong; Seed may be restarted meanwhile."""
    deadline = time.monotonic() + timeout
    seen = time.monotonic()
    with err.status("...") as progress:
        while True:
            try:
                cluster = dict(api.get(f"/{noun}s/{identity}"))
                seen = time.monotonic()
            except Unavailable:
                if time.monotonic() > min(deadline, seen + PATIENCE):
                    raise
                time.sleep(LOOK_SECONDS)
                continue
            progress.update(f"{cluster['name']} {cluster['state']}: {show.cell(cluster['detail'])}")
            if cluster["state"] == state and (cluster["settled"] or state != "ready"):
                return cluster
            if cluster["problem"]:
                raise Stuck(cluster["problem"], cluster["remedy"])
            if cluster["ended_at"]:
                raise Stuck(f"{cluster['name']} was released", f"`seed {noun} list --ended`")
            if time.monotonic() > deadline:
                raise TooLong(
                    f"{noun} {cluster['name']} is still {cluster['state']} after {timeout:.0f} s",
                    f"`seed {noun} show {cluster['name']}`",
                )
            time.sleep(LOOK_SECONDS)


def printed(cluster: dict[str, Any], output: show.Format) -> None:
    if output is not show.Format.TABLE:
        show.one(cluster, output)
        return
    names = (
        "name", "project", "kind", "version", "state", "since", "image", "network", "detail",
        "problem", "remedy", "undo_until",
    )  # fmt: skip
    facts = {name: cluster.get(name) or None for name in names}
    facts["api"] = f"{cluster['vip']}:{cluster['api_port']}"
    show.fields(when.shown(facts, "since", "undo_until"))
    if cluster["members"]:
        show.out.print(show.group([member_line(m) for m in cluster["members"]], MEMBERS))


def member_line(member: dict[str, Any]) -> dict[str, Any]:
    """far: the claim's state until it is active, then how it joins."""
    if member["claim_state"] != "active":
        return member | {"far": member["claim_state"], "now": member["claim_detail"]}
    lacks = f"lacks {member['missing']}" if member["missing"] else member["step_detail"]
    if member["joined_at"] and member["step_state"] != "failed":
        return member | {"far": "joined", "now": ""}
    far = member["step_state"] or "booted"
    now = " ".join(": ".join(filter(None, (member["step"], lacks))).split())
    return member | {"far": far, "now": now[:SHOWN] + ("..." if now[SHOWN:] else "")}
