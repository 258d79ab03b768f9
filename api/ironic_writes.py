"""What an operator may change in Ironic itself: a node's maintenance, description and extra.

A change is checked whole, and sent as what was checked, written anew.
"""

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from api.problems import Malformed
from provisioning.errors import Conflict, Forbidden, Invalid
from provisioning.ironic import FORGETTING
from provisioning.parts import LOGIN_REFUSED
from provisioning.rotation_turn import REASON as CHANGES_LOGIN

MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 10
MAX_OPS: Final = 100
MAX_REASON: Final = 255
MAX_DESCRIPTION: Final = 4096  # Ironic's own
OURS: Final = frozenset({LOGIN_REFUSED, CHANGES_LOGIN, FORGETTING})
"""Reasons by which Seed knows the maintenance that it set itself, and may end."""

_PATH = re.compile(r"(/v1/nodes/[A-Za-z0-9][A-Za-z0-9._~-]{0,254})(/maintenance)?")
_ROUTES: Final = {("PUT", True), ("DELETE", True), ("PATCH", False)}
_FIELDS: Final = "description, extra, maintenance, maintenance_reason"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_PLAIN_LINE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def _plain_line(text: str) -> str:
    if _PLAIN_LINE.search(text):
        raise ValueError("is one line of text without control characters")
    return text


Reason = Annotated[str, Field(max_length=MAX_REASON), AfterValidator(_plain_line)] | None


class Maintenance(BaseModel):
    """The body of PUT maintenance; an empty one will do."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: Reason = None


class Op(BaseModel):
    """One of RFC 6902. `from` is not here: move and copy could carry any field into a shown one.

    Ironic 39.0.0 takes add, replace and remove (common/args.py), and answers the others with 400.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    op: Literal["add", "replace", "remove", "test"]
    path: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^(/|$)")]
    value: Any = None

    @property
    def keys(self) -> list[str]:
        """RFC 6901: what the pointer's parts say."""
        return [part.replace("~1", "/").replace("~0", "~") for part in self.path.split("/")[1:]]


_OPS: Final = TypeAdapter(Annotated[list[Op], Field(min_length=1, max_length=MAX_OPS)])


@dataclass(frozen=True, slots=True)
class Write:
    """A change of the node at `node` (its path); `path` continues that one.

    maintains: whether it touches maintenance. why: the reason that it gives for that.
    what: one short sentence for the record.
    """

    method: str
    node: str
    path: str
    body: bytes | None
    what: str
    ops: tuple[Op, ...] = ()
    maintains: bool = False
    why: str = ""

    def check(self, node: dict[str, Any], ends_badly: str) -> None:
        """Against the node as it is now; `ends_badly`: why Ironic must be kept off its BMC.

        Raises Conflict for what Seed is at, Forbidden for what Seed reads.
        """
        if self.maintains:
            self._check_maintenance(node, ends_badly)
        for op in self.ops:
            if op.keys == ["extra"] and op.op != "test":
                _keeps_seeds_own(op, node)

    def _check_maintenance(self, node: dict[str, Any], ends_badly: str) -> None:
        name = node.get("name") or node["uuid"]
        if self.why in OURS:
            raise Forbidden(
                f"by the reason {self.why!r} Seed knows its own maintenance, and ends it",
                f"baremetal node maintenance set {name} --reason 'in words of your own'",
            )
        reason = node.get("maintenance_reason") or ""
        if node.get("maintenance") and reason in OURS:
            ends_badly = ends_badly or reason
        if ends_badly:
            raise Conflict(
                f"Seed keeps Ironic off the BMC of {name}: {ends_badly}; it ends that itself",
                f"seed node show {name}",
            )


def find(method: str, path: str, query: object, body: bytes) -> Write | None:
    """The change that this request asks for; None: it is none of those an operator may make.

    Raises Malformed, Invalid or Forbidden for one of them that is not as it must be.
    """
    found = _PATH.fullmatch(path)
    if not found or (method, bool(found[2])) not in _ROUTES:
        return None
    if query:
        raise Forbidden("a change takes no query parameters here", "leave them out")
    match method:
        case "PATCH":
            return _patch(found[1], body)
        case "PUT":
            return _maintain(found[1], body)
    if body.strip():
        raise Malformed("ending maintenance takes no body", "leave it out")
    return Write("DELETE", found[1], "/maintenance", None, "maintenance ends", maintains=True)


def document(body: bytes, largest: int = MAX_BYTES) -> Any:  # noqa: ANN401
    """JSON as every reader reads it: no name twice, no NaN, no depth. Raises Malformed, Invalid."""
    if len(body) > largest:
        raise Invalid(
            f"the change is larger than {largest // 1024} KiB", "Part it: several smaller ones."
        )
    try:
        read = json.loads(body, object_pairs_hook=_once, parse_constant=_no_number)
        json.dumps(read, allow_nan=False)  # 1e999
    except (ValueError, RecursionError) as error:
        raise Malformed(
            f"the body is not JSON that everybody reads alike: {_short(error)}",
            "baremetal node set NODE --extra KEY=VALUE",
        ) from error
    return read


def _short(error: Exception) -> str:
    return str(error)[:80] if isinstance(error, (json.JSONDecodeError, _Ambiguous)) else "a number"


class _Ambiguous(ValueError):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Ambiguous("a name is there twice")
    return found


def _no_number(text: str) -> float:
    raise _Ambiguous(f"{text} is no number")


def _maintain(node: str, body: bytes) -> Write:
    asked = _valid(TypeAdapter(Maintenance), document(body) if body.strip() else {})
    reason = (asked.reason or "").strip()
    sent = json.dumps({"reason": reason or None}).encode()
    return Write(
        "PUT", node, "/maintenance", sent, "maintenance begins", maintains=True, why=reason
    )


def _patch(node: str, body: bytes) -> Write:
    ops = _valid(_OPS, document(body))
    for op in ops:
        _check_op(op)
    fields = sorted({op.keys[0] for op in ops if op.op != "test"})
    reasons = [op.value for op in ops if op.keys == ["maintenance_reason"] and op.op != "test"]
    sent = json.dumps([op.model_dump(exclude_unset=True) for op in ops]).encode()
    return Write(
        "PATCH",
        node,
        "",
        sent,
        f"changes {', '.join(fields) or 'nothing'}",
        tuple(ops),
        maintains=bool({"maintenance", "maintenance_reason"} & set(fields)),
        why=next((reason.strip() for reason in reversed(reasons) if reason), ""),
    )


def _check_op(op: Op) -> None:
    """Raises Forbidden, Invalid."""
    top, *below = op.keys
    known = top == "extra" or (not below and top in _FIELDS.split(", "))
    if not known:
        raise Forbidden(
            f"{op.path[:80]} is not changed through here: an operator changes {_FIELDS}",
            _VERBS.get(top, "seed node --help"),
        )
    if op.op in ("add", "replace") and "value" not in op.model_fields_set:
        raise Invalid(f"{op.op} {op.path[:80]} has no value", "give it one, or remove the field")
    if below[:1] == ["seed"] and op.op != "test":
        raise Forbidden("extra.seed is what Seed keeps there for itself", "seed node --help")
    if op.op in ("add", "replace") and not below:
        _check_value(top, op.value)
    if _depth(op.value) > MAX_DEPTH:
        raise Invalid(f"extra nests deeper than {MAX_DEPTH} levels", "make it flatter")


_VERBS: Final = {
    "driver_info": "seed discover ADDRESS --username USER --password-stdin",
    "resource_class": "seed class apply",
    "properties": "seed class apply",
    "traits": "seed class apply",
    "name": "seed bmc accept ADDRESS --name NAME",
    "instance_info": "seed claim create NAME --image IMAGE",
    "instance_uuid": "seed claim create NAME --image IMAGE",
    "protected": "seed claim create NAME --image IMAGE",
}


def _check_value(field: str, value: object) -> None:
    fits = {
        "maintenance": lambda: isinstance(value, bool),
        "maintenance_reason": lambda: value is None or _text(value, MAX_REASON, _PLAIN_LINE),
        "description": lambda: value is None or _text(value, MAX_DESCRIPTION, _CONTROL),
        "extra": lambda: isinstance(value, dict),
    }[field]()
    if not fits:
        raise Invalid(
            f"{field} is {_SHAPES[field]}", f"baremetal node set NODE --{_OPTIONS[field]}"
        )


_SHAPES: Final = {
    "maintenance": "true or false",
    "maintenance_reason": f"one line of at most {MAX_REASON} characters",
    "description": f"text of at most {MAX_DESCRIPTION} characters",
    "extra": "an object of names and values",
}
_OPTIONS: Final = {
    "maintenance": "maintenance",
    "maintenance_reason": "maintenance --reason WHY",
    "description": "description TEXT",
    "extra": "extra KEY=VALUE",
}


def _text(value: object, longest: int, never: re.Pattern[str]) -> bool:
    return isinstance(value, str) and len(value) <= longest and not never.search(value)


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max((_depth(item) for item in inner), default=0)


def _keeps_seeds_own(op: Op, node: dict[str, Any]) -> None:
    seed = (node.get("extra") or {}).get("seed")
    given = op.value.get("seed") if op.op != "remove" else None
    if op.op == "remove" or given != seed:
        raise Forbidden(
            "this would change extra.seed, which Seed keeps there for itself",
            "baremetal node set NODE --extra KEY=VALUE  (one name of it at a time)",
        )


T = TypeVar("T")


def _valid(shape: TypeAdapter[T], document: Any) -> T:  # noqa: ANN401
    """What was sent is not repeated: only where it is wrong."""
    try:
        return shape.validate_python(document)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the body"
        raise Invalid(
            f"{where[:80]}: {fault['msg'].removeprefix('Value error, ')}",
            f"An operator changes {_FIELDS} of a node, each by add, replace, remove or test.",
        ) from error
