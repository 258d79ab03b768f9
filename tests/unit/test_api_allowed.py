"""The list of what passes through /baremetal."""

import pytest

from api.allowed import check, normal
from provisioning.errors import Forbidden

NODE = "/v1/nodes/3f0e3c5e-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/v1", "/v1/", "/v1/nodes", "/v1/nodes/detail", NODE, "/v1/nodes/rack-1.node_7",
        f"{NODE}/states", f"{NODE}/inventory", f"{NODE}/history", f"{NODE}/traits", f"{NODE}/vifs",
        f"{NODE}/bios", f"{NODE}/bios/SecureBoot", f"{NODE}/firmware", f"{NODE}/ports",
        "/v1/ports", "/v1/ports/detail", "/v1/drivers", "/v1/drivers/fake-hardware",
        "/v1/drivers/ipmi/properties", "/v1/conductors", "/v1/conductors/seed", "/v1/allocations",
        "/v1/portgroups", "/v1/chassis", "/v1/shards", "/v1/deploy_templates", "//v1//nodes",
        "/v1/runbooks", "/v1/runbooks/heal/traits", "/v1/inspection_rules",
        "/v1/inspection_rules/3f0e3c5e-0000-4000-8000-000000000001", f"{NODE}/children",
        f"{NODE}/allocation", "/v1/drivers/ipmi/raid/logical_disk_properties",
    ],
)  # fmt: skip
def test_reads_pass(path: str) -> None:
    check("GET", normal(path), [("limit", "5"), ("fields", "uuid")])


@pytest.mark.parametrize(
    "path",
    [
        f"{NODE}/states/console", f"{NODE}/states/provision", f"{NODE}/states/power",
        f"{NODE}/vendor_passthru", f"{NODE}/vendor_passthru/methods",
        f"{NODE}/management/boot_device",
        f"{NODE}/validate", f"{NODE}/vmedia", f"{NODE}/volume/targets", "/v1/volume/targets",
        "/v1/lookup", f"/v1/heartbeat/{NODE[-36:]}", "/v1/continue_inspection", "/v1/events",
        "/v1/nodes/vendor_passthru", "/v1/nodes/Vendor_Passthru.json", "/v1/nodes/states",
        "/v1/nodes/states.json", "/v1/nodes/management", "/v1/nodes/maintenance/ports",
        "/v1/drivers/vendor_passthru", "/v1/drivers/ipmi/vendor_passthru", "/v1/chassis/nodes",
        "/v1/deploy_templates/x/traits", "/v1/runbooks/x/y", "/v1/inspection_rules/x/y",
        "/v2/nodes", "/v1/nodes/a/b/c", "/healthcheck", "/v1/nodes/;x", "/v1/nodes/a:b",
    ],
)  # fmt: skip
def test_everything_else_does_not(path: str) -> None:
    with pytest.raises(Forbidden) as error:
        check("GET", normal(path), [])
    assert error.value.remedy.startswith("seed ")


@pytest.mark.parametrize(
    "path",
    [
        f"{NODE}/states/..%2Fvendor_passthru", "/v1/nodes/../lookup", "/v1/./nodes",
        "/v1/nodes/...",
        "/v1/nodes/%252e%252e/lookup", "/v1/nodes/%25", "/v1\\nodes", "/v1/nodes/%2e%2e/lookup",
    ],
)  # fmt: skip
def test_no_path_with_two_meanings(path: str) -> None:
    with pytest.raises(Forbidden):
        check("GET", normal(path), [])


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "get"])
def test_only_get(method: str) -> None:
    with pytest.raises(Forbidden):
        check(method, "/v1/nodes", [])


@pytest.mark.parametrize("name", ["_method", "node_ident", "method", "driver_name", ""])
def test_only_known_query_parameters(name: str) -> None:
    with pytest.raises(Forbidden, match="query parameter"):
        check("GET", "/v1/nodes", [("limit", "1"), (name, "post")])


@pytest.mark.parametrize(
    ("path", "verb"),
    [
        (f"{NODE}/states/provision", "seed claim create"),
        ("/v1/allocations", "seed claim create"),
        ("/v1/nodes", "seed bmc accept"),
        (f"{NODE}/vendor_passthru", "seed bmc show"),
    ],
)
def test_the_refusal_names_seeds_verb(path: str, verb: str) -> None:
    with pytest.raises(Forbidden) as error:
        check("POST", path, [])
    assert verb in error.value.remedy
