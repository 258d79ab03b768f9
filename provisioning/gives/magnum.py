"""Magnum's management cluster: a Kubernetes of Seed's, and magnum.conf to find it.

Keys: magnum 23.0.0 magnum/conf/drivers.py; magnum-capi-helm 1.4.0 magnum_capi_helm/conf.py and its
entry point k8s_capi_helm_v1. Its client takes a certificate or a token of the kubeconfig itself
(magnum_capi_helm/kubernetes.py): a ServiceAccount's token that lives as long as its Secret, since
certificates end after a year. Helm makes Roles, RoleBindings and Deployments there (azimuth-cloud/
capi-helm-charts charts/openstack-cluster/templates/autoscaler), which takes all that they give: so
the account is cluster-admin, and the cluster is for Magnum alone.
"""

from base64 import b64encode
from typing import Annotated, Any, Final

from pydantic import SecretStr, StringConstraints

from provisioning import gives
from provisioning.gives import Give, Wish
from provisioning.installers import OvercloudFacts
from provisioning.targets import PartSpec

DRIVER: Final = "k8s_capi_helm_v1"
NAMESPACE: Final = "seed-magnum"
ACCOUNT: Final = "magnum"
TOKEN_SECRET: Final = "magnum-token"  # noqa: S105  the name of a Secret
Url = Annotated[str, StringConstraints(pattern=r"^https://[^\s/]{1,255}$")]
Text = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,255}$")]
Pem = Annotated[str, StringConstraints(pattern=r"^-----BEGIN CERTIFICATE-----", max_length=65536)]


class Magnum(Wish):
    """cluster: the management cluster, as `seed cluster list` calls it. server, ca_pem: of its
    kubeconfig. token: the ServiceAccount's, once it is made. chart_repo: empty where the cluster
    finds none outside; None: the driver's own. kubeconfig_file: where Magnum finds it; Kolla
    (22.2.0, ansible/roles/magnum) puts its own at /var/lib/magnum/.kube/config.
    """

    cluster: Text | None = None
    server: Url | None = None
    ca_pem: Pem | None = None
    token: SecretStr | None = None
    kubeconfig_file: Text = "/etc/magnum/kubeconfig"
    namespace_prefix: Text | None = None
    chart_repo: str | None = None
    chart_name: Text | None = None
    chart_version: Text | None = None


def lacks(facts: OvercloudFacts) -> str:
    wish = gives.wish(facts, "magnum", Magnum)
    for word in ("cluster", "server", "ca_pem"):
        if not getattr(wish, word):
            return f"nobody said which Kubernetes manages Magnum's clusters: magnum.{word}"
    return ""


def files(facts: OvercloudFacts) -> list[PartSpec]:
    wish = gives.wish(facts, "magnum", Magnum)
    command = (
        f"kubectl get secret -n {NAMESPACE} {TOKEN_SECRET} -o jsonpath={{.data.token}} | base64 -d"
    )
    account = gives.as_yaml(
        facts, *_account(), hint=f"kubectl apply -f it on {wish.cluster}; its token: {command}"
    )
    conf = gives.as_ini(
        facts, _options(facts, wish), hint=f"The kubeconfig goes to {wish.kubeconfig_file}."
    )
    found = [gives.part("magnum.conf", conf), gives.part("service-account.yaml", account)]
    if wish.token:
        text = gives.as_yaml(facts, _kubeconfig(wish, wish.token))
        found.append(gives.part("kubeconfig", text, gives.SECRET))
    return found


def _options(facts: OvercloudFacts, wish: Magnum) -> dict[str, list[tuple[str, str]]]:
    prefix = wish.namespace_prefix or f"magnum-{gives.plain(facts.name).lower()}"
    told = [
        ("helm_chart_repo", wish.chart_repo),
        ("helm_chart_name", wish.chart_name),
        ("default_helm_chart_version", wish.chart_version),
    ]
    return {
        "capi_helm": [
            ("kubeconfig_file", wish.kubeconfig_file),
            ("namespace_prefix", prefix),
            *((key, value) for key, value in told if value is not None),
        ],
        "drivers": [("default_driver", DRIVER)],
    }


def _account() -> list[dict[str, Any]]:
    def about(name: str) -> dict[str, Any]:
        return {"name": name, "namespace": NAMESPACE}

    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": about(ACCOUNT)},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": about(TOKEN_SECRET)
            | {"annotations": {"kubernetes.io/service-account.name": ACCOUNT}},
            "type": "kubernetes.io/service-account-token",
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": NAMESPACE},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "cluster-admin",
            },
            "subjects": [{"kind": "ServiceAccount", **about(ACCOUNT)}],
        },
    ]


def _kubeconfig(wish: Magnum, token: SecretStr) -> dict[str, Any]:
    name = wish.cluster
    ca = b64encode((wish.ca_pem or "").encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": ACCOUNT}}],
        "clusters": [
            {
                "name": name,
                "cluster": {"server": wish.server, "certificate-authority-data": ca},
            }
        ],
        "users": [{"name": ACCOUNT, "user": {"token": token.get_secret_value()}}],
    }


PLUGIN = Give("magnum", "magnum.conf and an account for its management cluster", files, lacks)
