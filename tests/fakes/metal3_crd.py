"""What Metal3 publishes of a BareMetalHost, and Kubernetes of a Secret, as a schema.

metal3-io/baremetal-operator: `spec` of config/base/crds/bases/metal3.io_baremetalhosts.yaml at
01b5853 (v1alpha1): names, types, enumerations, patterns, what is required. A structural schema
prunes what it does not know; here that is refused. What the schema does not say and its webhook
does: internal/webhooks/metal3.io/v1alpha1/baremetalhost_validation.go at a3264bb, and the schemes
of pkg/hardwareutils/bmc (redfish.go at 137d872, redfish_virtualmedia.go at 47a68b9,
idrac_virtualmedia.go at 18fca47, redfish_https.go at 38b2471, ipmi.go at 22690a1).
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import jsonschema_rs

_TEXT, _FLAG = {"type": "string"}, {"type": "boolean"}
_COUNT, _SIZE = {"type": "integer", "minimum": 1}, {"type": "integer", "minimum": 0}


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
        "minSizeGigabytes": _SIZE,
        "model": _TEXT,
        "rotational": _FLAG,
        "serialNumber": _TEXT,
        "vendor": _TEXT,
        "wwn": _TEXT,
        "wwnVendorExtension": _TEXT,
        "wwnWithExtension": _TEXT,
    }
)
_REFERENCE = _object(
    dict.fromkeys(
        ("apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid"), _TEXT
    )
)
_IMAGE = _object(
    {
        "checksum": _TEXT,
        "checksumType": {"enum": ["md5", "sha256", "sha512", "auto"]},
        "format": {"enum": ["raw", "qcow2", "vdi", "vmdk", "live-iso"]},
        "ociAuthSecretName": _TEXT,
        "url": _TEXT,
    },
    ("url",),
)
_HARDWARE_RAID = _object(
    {
        "controller": _TEXT,
        "level": {"enum": ["0", "1", "2", "5", "6", "1+0", "5+0", "6+0"]},
        "name": {"type": "string", "maxLength": 64},
        "numberOfPhysicalDisks": _COUNT,
        "physicalDisks": {"type": "array", "items": _TEXT},
        "rotational": _FLAG,
        "sizeGibibytes": _SIZE,
    },
    ("level",),
)
_SOFTWARE_RAID = _object(
    {
        "level": {"enum": ["0", "1", "1+0"]},
        "physicalDisks": {"type": "array", "minItems": 2, "items": _HINTS},
        "sizeGibibytes": _SIZE,
    },
    ("level",),
)
_RAID = _object(
    {
        "hardwareRAIDVolumes": {"type": ["array", "null"], "items": _HARDWARE_RAID},
        "softwareRAIDVolumes": {"type": ["array", "null"], "maxItems": 2, "items": _SOFTWARE_RAID},
    }
)
_TAINT = _object(
    {
        "effect": _TEXT,
        "key": _TEXT,
        "timeAdded": {"type": "string", "format": "date-time"},
        "value": _TEXT,
    },
    ("effect", "key"),
)
_FIRMWARE = _object(
    dict.fromkeys(
        ("simultaneousMultithreadingEnabled", "sriovEnabled", "virtualizationEnabled"), _FLAG
    )
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
        "consumerRef": _REFERENCE,
        "customDeploy": _object({"method": _TEXT}, ("method",)),
        "description": _TEXT,
        "disablePowerOff": _FLAG,
        "externallyProvisioned": _FLAG,
        "firmware": _FIRMWARE,
        "hardwareProfile": _TEXT,
        "image": _IMAGE,
        "inspectionMode": {"enum": ["disabled", "agent"]},
        "metaData": _SECRET_REF,
        "networkData": _SECRET_REF,
        "online": _FLAG,
        "preprovisioningNetworkDataName": _TEXT,
        "raid": _RAID,
        "rootDeviceHints": _HINTS,
        "taints": {"type": "array", "items": _TAINT},
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
_NETWORK = ("redfish", "ilo5-redfish", "idrac-redfish")
_MEDIA = ("redfish-virtualmedia", "ilo5-virtualmedia", "idrac-virtualmedia", "redfish-uefihttp")
_SCHEMES = {
    *("ipmi", "libvirt"),
    *(f"{kind}{over}" for kind in _NETWORK + _MEDIA for over in ("", "+http", "+https")),
}


def faults(document: dict[str, Any]) -> list[str]:
    """What the API server would refuse, or throw away."""
    validator = jsonschema_rs.validator_for(SCHEMAS[document["kind"]])
    found = [f"{list(e.instance_path)}: {e.message}" for e in validator.iter_errors(document)]
    if document["kind"] == "BareMetalHost" and not found:
        found += _webhook(document["metadata"]["name"], document["spec"])
    return found


def _webhook(name: str, spec: dict[str, Any]) -> Iterator[str]:
    try:
        UUID(name)
    except ValueError:
        pass
    else:
        yield f"{name}: a host's name cannot be a UUID"
    scheme = urlsplit(spec.get("bmc", {}).get("address", "")).scheme
    if scheme and scheme not in _SCHEMES:
        yield f"no BMC is of the kind {scheme}"
    if scheme.partition("+")[0] in ("libvirt", *_MEDIA) and "bootMACAddress" not in spec:
        yield f"{scheme} wants a bootMACAddress"
    if spec.get("disablePowerOff") and not spec["online"]:
        yield "it cannot be off, and never be switched off"
