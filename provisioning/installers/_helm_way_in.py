"""How clients come in to OpenStack-Helm's services: an address of MetalLB's, and a gateway on it.

Both as openstack/openstack-helm's doc/source/install/prerequisites.rst at f5ea292 has them; the
class of gateways, which it takes as given, as Envoy Gateway's own documentation does.
"""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any, Final

NAMESPACE: Final = "metallb-system"
GATEWAYS: Final = "envoy-gateway-system"
POOL: Final = "openstack"


def metallb(vip: str) -> Iterator[dict[str, Any]]:
    """A pool that is used only by whom asks for its address by name."""
    own = str(ip_network(vip))
    for kind, spec in (
        ("IPAddressPool", {"addresses": [own], "autoAssign": False}),
        ("L2Advertisement", {"ipAddressPools": [POOL]}),
    ):
        where = {"name": POOL, "namespace": NAMESPACE}
        yield {"apiVersion": "metallb.io/v1beta1", "kind": kind, "metadata": where, "spec": spec}


def gateway(vip: str) -> Iterator[dict[str, Any]]:
    """gateway-default is the name that values_overrides/*/gateway.yaml refer to."""
    kubernetes, envoy = "gateway.networking.k8s.io", "gateway.envoyproxy.io"
    service = {
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Cluster",
        "annotations": {"metallb.universe.tf/loadBalancerIPs": vip},
    }
    yield {
        "apiVersion": f"{kubernetes}/v1", "kind": "GatewayClass", "metadata": {"name": "default"},
        "spec": {"controllerName": f"{envoy}/gatewayclass-controller"},
    }  # fmt: skip
    yield {
        "apiVersion": f"{envoy}/v1alpha1", "kind": "EnvoyProxy",
        "metadata": {"name": "gateway-proxy-default", "namespace": GATEWAYS},
        "spec": {"provider": {"type": "Kubernetes", "kubernetes": {"envoyService": service}}},
    }  # fmt: skip
    own = {"group": envoy, "kind": "EnvoyProxy", "name": "gateway-proxy-default"}
    listener = {
        "name": "http", "protocol": "HTTP", "port": 80,
        "allowedRoutes": {"namespaces": {"from": "All"}},
    }  # fmt: skip
    yield {
        "apiVersion": f"{kubernetes}/v1", "kind": "Gateway",
        "metadata": {"name": "gateway-default", "namespace": GATEWAYS},
        "spec": {
            "gatewayClassName": "default", "infrastructure": {"parametersRef": own},
            "listeners": [listener],
        },
    }  # fmt: skip
