"""The fields that Metal3 publishes for a BareMetalHost, and Kubernetes for a Secret, as a schema.

Source: baremetal-operator, config/base/crds/bases/metal3.io_baremetalhosts.yaml, v1alpha1, of
November 2026: names, types, enumerations, patterns and what is required of `spec`. A structural
schema prunes what it does not know; here that is refused.
"""

from typing import Any

import jsonschema_rs

_TEXT, _FLAG = {"type": "string"}, {"type": "boolean"}


def _object(properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


_SECRET_REF = _object({"name": _TEXT, "namespace": _TEXT})
_HINTS = _object(
    {
        "deviceName": _TEXT,
        "hctl": _TEXT,
        "minSizeGigabytes": {"type": "integer", "minimum": 0},
        "model": _TEXT,
        "rotational": _FLAG,
        "serialNumber": _TEXT,
        "vendor": _TEXT,
        "wwn": _TEXT,
        "wwnVendorExtension": _TEXT,
        "wwnWithExtension": _TEXT,
    }
)
_META = _object(
    {
        "name": {"type": "string", "pattern": r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"},
        "namespace": {"type": "string", "pattern": r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"},
        "labels": {
            "type": "object",
            "propertyNames": {"pattern": r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$"},
            "additionalProperties": {
                "type": "string",
                "pattern": r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$",
            },
        },
    },
    ("name", "namespace"),
)
_SPEC = _object(
    {
        "architecture": _TEXT,
        "automatedCleaningMode": {"enum": ["metadata", "disabled"]},
        "bmc": _object(
            {
                "address": _TEXT,
                "credentialsName": _TEXT,
                "disableCertificateVerification": _FLAG,
            },
            ("address", "credentialsName"),
        ),
        "bootMACAddress": {"type": "string", "pattern": "[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}"},
        "bootMode": {"enum": ["UEFI", "UEFISecureBoot", "legacy"]},
        "consumerRef": {"type": "object"},
        "customDeploy": _object({"method": _TEXT}, ("method",)),
        "description": _TEXT,
        "disablePowerOff": _FLAG,
        "externallyProvisioned": _FLAG,
        "image": {"type": "object"},
        "inspectionMode": {"enum": ["disabled", "agent"]},
        "metaData": _SECRET_REF,
        "networkData": _SECRET_REF,
        "online": _FLAG,
        "preprovisioningNetworkDataName": _TEXT,
        "raid": {"type": "object"},
        "rootDeviceHints": _HINTS,
        "taints": {"type": "array"},
        "userData": _SECRET_REF,
    },
    ("online",),
)
_HOST = _object(
    {
        "apiVersion": {"const": "metal3.io/v1alpha1"},
        "kind": {"const": "BareMetalHost"},
        "metadata": _META,
        "spec": _SPEC,
    },
    ("apiVersion", "kind", "metadata", "spec"),
)
_SECRET = _object(
    {
        "apiVersion": {"const": "v1"},
        "kind": {"const": "Secret"},
        "metadata": _META,
        "type": {"const": "Opaque"},
        "data": _object(
            {
                key: {"type": "string", "pattern": r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/=]{4})?$"}
                for key in ("username", "password")
            },
            ("username", "password"),
        ),
    },
    ("apiVersion", "kind", "metadata", "type", "data"),
)
SCHEMAS = {"BareMetalHost": _HOST, "Secret": _SECRET}


def faults(document: dict[str, Any]) -> list[str]:
    """What the API server would refuse, or throw away."""
    validator = jsonschema_rs.validator_for(SCHEMAS[document["kind"]])
    return [f"{list(e.instance_path)}: {e.message}" for e in validator.iter_errors(document)]
