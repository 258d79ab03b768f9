"""What passes through /baremetal while break-glass is open, and what never does."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlmodel import Session, select

from api import allowed
from api.ironic_writes import document
from api.limits import MAX_BYTES
from api.parts import Door
from api.roles import Caller, Role
from provisioning import break_glass
from provisioning.errors import Forbidden, Invalid
from provisioning.models import Bmc
from provisioning.store import Store
from provisioning.tenants import BreakGlass

METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_BOOT_INFO: Final = frozenset(
    {
        "bootloader", "deploy_kernel", "deploy_ramdisk", "force_persistent_boot_device",
        "ipmi_disable_boot_timeout", "ipmi_force_boot_device", "kernel_append_params",
        "rescue_kernel", "rescue_ramdisk",
    }
)  # fmt: skip
_LOGIN: Final = "seed discover ADDRESS --username USER --password-stdin"
# (methods, path, why not, what to type instead). Each would hand out a secret, or outlive the half
# hour where nobody looks.
_NEVER: Final = (
    (METHODS, r"/v1/(lookup|heartbeat|continue_inspection)(/.*)?",
     "is for a server's ramdisk: it would mint or use an agent token", "seed node list"),
    ({"POST", "PUT", "PATCH"}, r"/v1/inspection_rules(/.*)?",
     "would copy any field, passwords too, at each inspection to come", "seed class put FILE"),
    ({"POST", "PUT", "PATCH"}, r"/v1/deploy_templates(/.*)?",
     "would change all deploys to come", "seed class put FILE"),
    (METHODS - {"GET"}, r"/v1/volume(/.*)?",
     "holds logins of storage, and Seed deploys to no volume", "seed claim create NAME"),
)  # fmt: skip
_ITEM: Final = re.compile(r"/v1/[a-z_]+/(?P<id>[^/]+)(?:/.*)?")
_NODE: Final = re.compile(r"/v1/nodes/(?P<id>[A-Za-z0-9][A-Za-z0-9._~-]{0,254})")
_READDRESSING: Final = re.compile(r"_.*|.*_ident|driver_name|.*_uuid_or_name|primary_key")


def identity(caller: Caller, door: Door) -> str:
    """Whose it is. A user of this machine and a token may have one name and are two."""
    return f"{caller.name}@local" if door is Door.LOCAL else caller.name


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it is sent: `body` is written anew from what was checked."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    body: bytes | None

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.body).hexdigest() if self.body else ""


def checked(method: str, path: str, query: Sequence[tuple[str, str]], body: bytes) -> Call:
    """Raises Forbidden for what not even this opens, Malformed and Invalid for a wrong body."""
    if method not in METHODS or not re.fullmatch(r"/(v1(/.*)?)?", path):
        raise Forbidden(f"{method} {path} is not Ironic's API", "baremetal --help")
    # Ironic's middleware cuts ".json" off for older microversions.
    plain = path.removesuffix(".json")
    for methods, shape, why, verb in _NEVER:
        if method in methods and re.fullmatch(shape, plain):
            raise Forbidden(f"not even break-glass opens {method} {path}: it {why}", verb)
    _check_address(method, plain)
    for name, _ in query:
        if _READDRESSING.fullmatch(name):
            raise Forbidden(
                f"the query parameter {name[:40]!r} makes another call of this one", "leave it out"
            )
    sent = document(body, MAX_BYTES) if body.strip() else None
    if method == "PATCH":
        _check_patch(path, sent)
    return Call(method, path, tuple(query), None if sent is None else json.dumps(sent).encode())


def _check_address(method: str, path: str) -> None:
    """What is called is in the path, where the record shows it."""
    found = _ITEM.fullmatch(path)
    if found is None and method in ("PUT", "PATCH", "DELETE"):
        raise Forbidden(f"{method} {path} does not say of what", "baremetal --help")
    given = found["id"].lower() if found else ""
    if given in allowed.RESERVED and not (method == "GET" and given == "detail"):
        raise Forbidden(f"{method} {path} does not say of what", "baremetal --help")


def _check_patch(path: str, ops: Any) -> None:  # noqa: ANN401
    if not isinstance(ops, list) or not all(isinstance(op, dict) for op in ops):
        raise Invalid("a patch is a list of operations (RFC 6902)", "baremetal node set --help")
    for op in ops:
        pointer = op.get("path")
        if op.get("op") not in ("add", "replace", "remove", "test") or "from" in op:
            raise Forbidden(
                "move and copy are never passed on: they would carry a password to where it shows",
                "read the value, then add it",
            )
        if not isinstance(pointer, str):
            raise Invalid("an operation has no path", "baremetal node set --help")
        _check_login(path, pointer)


def _check_login(path: str, pointer: str) -> None:
    """driver_info says where Ironic sends a BMC's password, and Seed's is the truth of it."""
    keys = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    if keys[:1] == ["driver_info"] and not set(keys[1:2]) & _BOOT_INFO:
        raise Forbidden(
            f"not even break-glass opens {pointer[:80]}: it says where a BMC's password is sent",
            _LOGIN,
        )
    if not keys and path.startswith("/v1/nodes"):
        raise Forbidden("a patch of the whole node is not passed on", "baremetal node set --help")


def check_deletion(session: Session, node_uuid: UUID) -> None:
    """Seed would make its own nodes anew at once, and a claim would have lost its server."""
    bmc = session.exec(select(Bmc).where(Bmc.node_uuid == node_uuid)).first()
    if bmc is not None:
        raise Forbidden(
            f"{bmc.node_name} is Seed's: deleted here, Seed would enroll it anew at once",
            f"seed bmc forget {bmc.address}",
        )


def deletes_node(call: Call) -> str:
    """The node that it would delete, as it is named there; "": it deletes none."""
    found = _NODE.fullmatch(call.path.removesuffix(".json"))
    return found["id"] if found and call.method == "DELETE" else ""


def opened_for(store: Store, caller: Caller, door: Door) -> BreakGlass | None:
    """Theirs. It is closed for good as soon as they come without the role."""
    me = identity(caller, door)
    with store.read() as session:
        row = break_glass.current(session, me)
    if row is None or Role.DESTROYER in caller.roles:
        return row
    with store.write() as session:
        break_glass.end(session, me, "Seed", f"{me} has not the role destroyer any more")
    return None


def ran_out(store: Store, caller: Caller, door: Door) -> Forbidden | None:
    """What to tell somebody whose time is over."""
    me = identity(caller, door)
    with store.read() as session:
        ended = break_glass.last_end(session, me)
    if ended is None:
        return None
    return Forbidden(
        f"break-glass of {me} ended at {ended:%H:%M:%S} UTC; this call was not sent to Ironic",
        "seed break-glass open --why REASON",
    )
