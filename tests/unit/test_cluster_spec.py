"""What a cluster's spec must be, and which field is named where it is not."""

from typing import Any

import pytest
from pydantic import ValidationError

from provisioning.cluster_spec import ClusterSpec

GOOD: dict[str, Any] = {
    "name": "web", "kind": "swarm", "image": "kubernetes-node", "ssh_keys": ["ssh-ed25519 AAAA me"],
    "api": {"network": "api"}, "control": {"count": 3, "spread": "rack"},
    "workers": {"count": 2, "labels": {"gpu": "yes"}, "node_labels": {"gpu": "a100"}},
}  # fmt: skip


def test_a_good_spec_says_which_nodes_it_would_have() -> None:
    spec = ClusterSpec.model_validate(GOOD)
    control = spec.control.wish("web-control", spec.image, spec.ssh_keys)
    assert (control.count, control.spread, control.image) == (3, "rack", "kubernetes-node")
    workers = spec.workers.wish("web-worker", spec.image, spec.ssh_keys)
    assert (workers.count, workers.labels, workers.ssh_keys) == (
        2,
        {"gpu": "yes"},
        ["ssh-ed25519 AAAA me"],
    )


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"control": {"count": 2}}, "control.count: 2 control planes bear no more failures than 1"),
        ({"control": {"count": 0}}, "control.count: 1 to 7"),
        ({"control": {"count": 9}}, "control.count: 1 to 7"),
        ({"control": {"count": True}}, "control.count"),
        ({"workers": {"count": -1}}, "workers.count"),
        ({"workers": {"count": 501}}, "workers.count: at most 500"),
        ({"pods": "10.244.0.1/16"}, "pods"),
        ({"services": "10.244.128.0/17"}, "services: 10.244.128.0/17 overlaps pods 10.244.0.0/16"),
        ({"services": "fd00::/112"}, "services: IPv6, and pods are IPv4"),
        ({"version": "1.36"}, "version"),
        ({"name": "a" * 41}, "name: at most 40"),
        ({"api": {"network": "api", "port": 0}}, "api.port"),
        ({"workers": {"count": 1, "node_labels": {"GPU": "x"}}}, "workers.node_labels"),
        ({"workers": {"count": 1, "node_labels": {"gpu": "-x"}}}, "workers.node_labels"),
        ({"workers": {"count": 1, "node_taints": ["gpu=yes:Never"]}}, "workers.node_taints"),
        ({"kindd": "swarm"}, "kindd"),
    ],
)
def test_a_bad_one_is_refused_by_its_field(told: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ClusterSpec.model_validate(GOOD | told)
    said = [
        f"{'.'.join(map(str, e['loc']))}: {e['msg']}" if e["loc"] else e["msg"]
        for e in refused.value.errors()
    ]
    assert any(field in line for line in said), said
