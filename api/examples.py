"""Examples for the OpenAPI document: each noun's fields as one and the same small room has them.

A model may state its own with `json_schema_extra={"example": ...}`; else one is put together here
from the names of its fields. tests/contract/test_openapi.py checks each against its model.
"""

from typing import Any, Final

Schema = dict[str, Any]

_TIME: Final = "2026-11-28T10:00:00Z"
_UUID: Final = "5b0c1e6e-5f0b-4d6e-9a64-3f6f2c1f7a10"
_HASH: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_MAC: Final = "52:54:00:22:00:01"
_KEY: Final = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7l0fFq0000000000000000000000000000000 me"

VALUES: Final[dict[str, tuple[Any, ...]]] = {
    "address": ("172.22.1.11",),
    "addresses": ("172.22.0.11/24", 253),
    "asked_by": ("root",),
    "bmc": ("172.22.1.11",),
    "bmc_address": ("172.22.1.11",),
    "bmc_mac": ("52:54:00:11:00:01",),
    "bmcs": ("172.22.1.11",),
    "claim": ("web",),
    "cloud": ("old-room",),
    "count": (2,),
    "created_by": ("root",),
    "credential": ("rack-a",),
    "days": (30,),
    "description": ("Web servers",),
    "drift": ("memory: 256 GiB became 192 GiB",),
    "driver": ("redfish",),
    "ends_at": ("2026-12-28T10:00:00Z",),
    "expires_at": ("2026-12-28T10:00:00Z",),
    "fingerprint": (_HASH,),
    "firmware": ("uefi",),
    "hardware_class": ("web-gen10",),
    "hash": (_HASH,),
    "hostname": ("web-0",),
    "image": ("debian",),
    "kind": ("claim.active",),
    "login": ("works",),
    "mac": (_MAC,),
    "macs": (_MAC,),
    "manager_mac": ("52:54:00:11:00:01",),
    "message": ("2 nodes are handed out",),
    "model": ("ProLiant DL360 Gen10",),
    "name": ("web-1",),
    "node": ("web-1",),
    "node_name": ("web-1",),
    "node_uuid": (_UUID,),
    "nodes": ("web-1", 2),
    "origin": ("order-4711.csv",),
    "password": ("a long password of the BMC",),
    "plan": (_HASH,),
    "power_state": ("power on",),
    "priority": (10,),
    "project": ("blue",),
    "protocol": ("redfish",),
    "provision_state": ("active",),
    "put_by": ("root",),
    "rack": ("r3",),
    "ranges": ("172.22.1.0/24",),
    "remedy": ("",),
    "resource_class": ("baremetal",),
    "roles": ("claimer",),
    "row": ("a",),
    "serial": ("CZJ1234567",),
    "site": ("hall-1",),
    "slot": ("r3-u12",),
    "source": ("packing-list",),
    "sources": ("sweep",),
    "ssh_keys": (_KEY,),
    "ssh_user": ("debian",),
    "starts_at": (_TIME,),
    "state": ("active", "done"),
    "status": ("ok", "arrived"),
    "subject": (_UUID,),
    "system_uuid": (_UUID,),
    "technician": ("sam",),
    "text": (
        "name: web-gen10\nresource_class: baremetal\nmatch:\n  model: ProLiant DL360 Gen10\n",
    ),
    "token": ("the-secret-is-shown-here-once",),
    "traits": ("CUSTOM_NVME",),
    "unit": (12,),
    "url": ("https://hooks.example.org/seed",),
    "user": ("alice",),
    "username": ("admin",),
    "uuid": (_UUID,),
    "vendor": ("HPE",),
    "version": ("2026-11-28",),
    "wanted": ("active",),
    "who": ("root",),
    "why": ("the room is rebuilt",),
}
"""Field -> values of which the first one that its type allows is taken."""
_FORMATS: Final = {
    "date-time": _TIME,
    "uuid": _UUID,
    "binary": "...",
    "ipv4": "172.22.1.11",
    "date": "2026-11-28",
    "uri": "https://seed:8443/",
}
_SIMPLE: Final[dict[str, Any]] = {
    "integer": 1,
    "number": 1.0,
    "boolean": False,
    "null": None,
    "string": "",
}
_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "string": str,
}


def example(schema: Schema, models: Schema, *, request: bool = False, name: str = "") -> Any:  # noqa: ANN401
    """A value of `schema`. models: components.schemas. request: optional fields are left out."""
    schema = _resolved(schema, models)
    for key in ("example", "const", "default"):
        if key in schema and not (key == "default" and name in VALUES):
            return schema[key]
    if "enum" in schema:
        known = [value for value in VALUES.get(name, ()) if value in schema["enum"]]
        return (known or schema["enum"])[0]
    match schema.get("type"):
        case "object":
            return _object(schema, models, request=request)
        case "array":
            return [example(schema["items"], models, request=request, name=name)]
        case kind:
            return _scalar(schema, kind or "null", name)


def _resolved(schema: Schema, models: Schema) -> Schema:
    """Without references and alternatives: the first one that is something."""
    while True:
        if "$ref" in schema:
            target = models[schema["$ref"].rpartition("/")[2]]
            schema = {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
        elif alternatives := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
            rest = {k: v for k, v in schema.items() if k not in ("anyOf", "oneOf", "allOf")}
            some = [one for one in alternatives if one.get("type") != "null"]
            schema = {**(some or alternatives)[0], **rest}
            if schema.get("default", "") is None:
                del schema["default"]
        else:
            return schema


def _object(schema: Schema, models: Schema, *, request: bool) -> dict[str, Any]:
    required = schema.get("required", ())
    fields = schema.get("properties", {})
    wanted = {n: f for n, f in fields.items() if not request or n in required}
    return {n: example(f, models, request=request, name=n) for n, f in wanted.items()}


def _scalar(schema: Schema, kind: str, name: str) -> Any:  # noqa: ANN401
    if "format" in schema and schema["format"] in _FORMATS:
        return _FORMATS[schema["format"]]
    for value in VALUES.get(name, ()):
        if isinstance(value, _TYPES.get(kind, ())) and not isinstance(value, bool):
            return value
    return max(schema.get("minimum", 0), _SIMPLE[kind]) if kind == "integer" else _SIMPLE[kind]
