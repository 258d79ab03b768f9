"""Reads of Ironic's API that pass through /baremetal, by a list. All else names Seed's verb.

Left out though they look like reads, because Ironic asks the BMC for each (its login may be
refused or being changed) or because they show more than a state: console, vendor_passthru,
management (boot device, indicators), vmedia, validate; volume connectors and targets, which hold
logins of storage; lookup, which mints an agent token.
"""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

from provisioning.errors import Forbidden

_ID = r"(?P<id>[A-Za-z0-9][A-Za-z0-9._~-]{0,254})"
_NODE_PARTS = (
    "states|inventory|history|traits|vifs|bios|firmware|ports|portgroups|allocation|children"
)
_ITEMS = (
    "ports|portgroups|chassis|conductors|allocations|deploy_templates|runbooks|inspection_rules"
)
_READS = re.compile(
    rf"""
    /(?:v1(?:/shards
        |/nodes(?:/detail|/{_ID}(?:/(?:{_NODE_PARTS}|(?:history|bios)/[A-Za-z0-9._-]+))?)?
        |/drivers(?:/[a-z0-9-]+(?:/properties|/raid/logical_disk_properties)?)?
        |/(?:ports|portgroups|chassis)/detail
        |/runbooks/[A-Za-z0-9][A-Za-z0-9._~-]{{0,254}}/traits
        |/(?:{_ITEMS})(?:/{_ID.replace("?P<id>", "?P<item>")}(?:/ports|/nodes)?)?
    )?)?""",
    re.VERBOSE,
)
# Words that Ironic's router takes for a sub-resource where an id is expected: GET
# /v1/nodes/vendor_passthru?node_ident=...&method=... would run a vendor's method.
RESERVED: Final = frozenset(
    {
        "detail", "maintenance", "management", "nodes", "ports", "properties", "raid", "states",
        "validate", "vendor_passthru",
    }
)  # fmt: skip
# Ironic's router also takes `_method` (POST by GET) and `node_ident`: only known names pass.
QUERY: Final = frozenset(
    {
        "address", "associated", "chassis_uuid", "conductor", "conductor_group",
        "conductor_groups", "description_contains", "detail", "driver", "fault", "fields",
        "include_children", "instance_name", "instance_uuid", "lessee", "limit", "maintenance",
        "marker", "node", "node_uuid", "owner", "parent_node", "phase", "portgroup", "project",
        "provision_state", "resource_class", "retired", "shard", "sharded", "sort_dir",
        "sort_key", "state", "type",
    }
)  # fmt: skip

# What somebody wanted who came here with something else -> the verb that does it.
_VERBS: Final = (
    (r".*/states/provision", "seed claim create NAME --image IMAGE, or seed node provide NODE"),
    (r".*/states/power", "seed claim create NAME --image IMAGE; Seed powers a server as it goes"),
    (r".*/(console|vendor_passthru|management|vmedia)(/.*)?", "seed bmc show ADDRESS"),
    (r"/v1/allocations(/.*)?", "seed claim create NAME --image IMAGE"),
    (r"/v1/(nodes|ports|portgroups|chassis)", "seed bmc accept ADDRESS"),
    (r"/v1/nodes/[^/]+/maintenance", "baremetal node maintenance set NODE --reason WHY"),
    (r"/v1/(lookup|heartbeat|continue_inspection)(/.*)?", "seed node list"),
    (r"/v1/nodes/.*", "seed node --help"),
)


def normal(path: str) -> str:
    """The path as Ironic will see it: decoded, without empty segments and a slash at its end.

    Raises Forbidden for a path that means different things to different readers.
    """
    decoded = unquote(path)  # a second time, after the server: %252e must not survive
    segments = [segment for segment in decoded.split("/") if segment]
    if "%" in decoded or "\\" in decoded or any(set(part) <= {"."} for part in segments):
        raise Forbidden("this path is not written plainly", "write it without %, \\ and ..")
    return "/" + "/".join(segments)


def check(method: str, path: str, query: Sequence[tuple[str, str]]) -> None:
    """Raises Forbidden unless this is a read on the list. `path` comes from `normal`."""
    found = _READS.fullmatch(path) if method == "GET" else None
    if found is None or _reserved(found):
        raise Forbidden(
            f"{method} {path} does not pass through here: /baremetal is for reading, and for "
            "operators' maintenance, description and extra",
            _verb(path),
        )
    for name, _ in query:
        if name not in QUERY:
            raise Forbidden(
                f"the query parameter {name[:40]!r} does not pass through here", "leave it out"
            )


def _reserved(found: re.Match[str]) -> bool:
    """Ironic cuts ".json" off a path, so it does not make a word another one."""
    given = found["id"] or found["item"] or ""
    return given.lower().removesuffix(".json") in RESERVED


def _verb(path: str) -> str:
    return next((verb for shape, verb in _VERBS if re.fullmatch(shape, path)), "seed --help")
