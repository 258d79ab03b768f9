"""Labels of nodes: people's own words, for choosing."""

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import StringConstraints
from sqlmodel import Session

from provisioning.errors import Invalid
from provisioning.models import Bmc
from provisioning.names import NAME
from provisioning.store import record

MOST: Final = 64
"""Of one node."""
VALUE: Final = r"^[^\x00-\x1f\x7f]{0,63}$"
Key = Annotated[str, StringConstraints(pattern=NAME)]
Value = Annotated[str, StringConstraints(pattern=VALUE)]


def changed(old: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """None takes one off."""
    merged = {**old, **changes}
    return {key: value for key, value in merged.items() if value is not None}


def put(session: Session, bmc: Bmc, wanted: dict[str, str], who: str) -> None:
    """These and no others, with an event where that is a change. Raises Invalid: too many."""
    if len(wanted) > MOST:
        raise Invalid(
            f"{bmc.node_name} would have {len(wanted)} labels, at most {MOST} are kept",
            f"Take some off: `seed node label {bmc.node_name} KEY-`.",
        )
    if wanted == bmc.labels:
        return
    bmc.labels = dict(sorted(wanted.items()))
    session.add(bmc)
    told = ", ".join(f"{key}={value}" for key, value in bmc.labels.items())
    record(session, "node.labelled", bmc.node, told or "no labels", who=who)
