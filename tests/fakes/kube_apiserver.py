"""A small kube-apiserver: as strict as the real one for the paths that Seed asks, and no more.

Who one is comes of the client certificate: CN the user, each O a group. Nobody is
system:anonymous. What it answers otherwise is the real one's, as read in Kubernetes 1.36: 401 for
a certificate of another CA, 403 without a right, 404 for what is not there, all as a Status.
"""

import asyncio
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from provisioning.kube_api import KubeAccess
from tests.fakes.serving import serving
from tests.fakes.tls import over_tls

Document = dict[str, Any]
Answer = tuple[int, Document | str]

KINDS = {
    "/api/v1": {
        "nodes": ("Node", False), "namespaces": ("Namespace", False), "pods": ("Pod", True),
        "services": ("Service", True), "secrets": ("Secret", True),
        "configmaps": ("ConfigMap", True),
        "persistentvolumeclaims": ("PersistentVolumeClaim", True),
        "persistentvolumes": ("PersistentVolume", False),
    },
    "/apis/rbac.authorization.k8s.io/v1": {"clusterrolebindings": ("ClusterRoleBinding", False)},
    "/apis/discovery.k8s.io/v1": {"endpointslices": ("EndpointSlice", True)},
    "/apis/storage.k8s.io/v1": {"storageclasses": ("StorageClass", False)},
}  # fmt: skip
"""group version -> plural -> (kind, namespaced)."""
FOR_ALL = {"/readyz", "/livez", "/healthz", "/version"}
"""system:public-info-viewer."""
APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True)
class Caller:
    user: str = "system:anonymous"
    groups: tuple[str, ...] = ("system:unauthenticated",)
    known: bool = True
    """False: a certificate of another CA."""


@dataclass
class KubeApiserver:
    """ca: PEM. objects: path -> object. lacks: what /readyz does not find. down: nobody answers.

    asked: method and path of each request. works: controllers and kubelets do their part after
    each request. web: what the pod behind a Service answers. policy: below it
    nothing may be changed.
    """

    ca: str
    objects: dict[str, Document] = field(default_factory=dict)
    lacks: str = ""
    down: bool = False
    works: bool = True
    policy: str = ""
    web: Answer = (200, "OK")
    pod_phase: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("default", "kube-system"):
            self.objects[f"/api/v1/namespaces/{name}"] = _named("Namespace", name)
            self.serviced.add(name)

    serviced: set[str] = field(default_factory=set)
    """Namespaces that have their service account."""

    # --- who -------------------------------------------------------------------------------------

    def who(self, certificate: x509.Certificate | None) -> Caller:
        if certificate is None:
            return Caller()
        try:
            certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(self.ca.encode()))
        except (ValueError, TypeError, InvalidSignature):
            return Caller(known=False)
        (user,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        groups = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        return Caller(str(user.value), tuple(str(group.value) for group in groups))

    def may(self, caller: Caller, path: str) -> bool:
        bound = {
            subject["name"]
            for row in self.objects.values()
            if row.get("kind") == "ClusterRoleBinding" and row["roleRef"]["name"] == "cluster-admin"
            for subject in row["subjects"]
            if subject["kind"] == "Group"
        }
        return path in FOR_ALL or bool({"system:masters", *bound} & set(caller.groups))

    # --- what ------------------------------------------------------------------------------------

    def answer(
        self, caller: Caller, method: str, target: str, kind: str = "", body: bytes = b""
    ) -> Answer:
        url = urlsplit(target)
        path, query = unquote(url.path), parse_qs(url.query)
        self.asked.append(f"{method} {path}")
        if not caller.known:
            return _status(401, "Unauthorized", "Unauthorized")
        if not self.may(caller, path):
            return _status(403, "Forbidden", f'User "{caller.user}" cannot do this at {path}')
        try:
            return self._answer(method, path, query, kind, body)
        finally:
            if self.works:
                self._work()

    def _answer(
        self, method: str, path: str, query: dict[str, list[str]], kind: str, body: bytes
    ) -> Answer:
        if path in FOR_ALL:
            return self._ready()
        if path.endswith("/proxy/health"):
            return self._proxy(path)
        found = _resource(path)
        if found is None:
            return _status(404, "NotFound", "the server could not find the requested resource")
        if method == "GET" and found.name:
            return self._one(path, found)
        if method == "GET":
            return self._list(path, found, query)
        if method == "PATCH" and found.name:
            return self._apply(path, found, query, kind, body)
        if method == "DELETE" and found.name:
            return self._delete(path, found)
        return _status(405, "MethodNotAllowed", "the server does not allow this method")

    def _ready(self) -> Answer:
        if self.lacks:
            return (
                500,
                f"[+]ping ok\n[-]{self.lacks} failed: reason withheld\nreadyz check failed\n",
            )
        return 200, "ok"

    def _one(self, path: str, found: "Resource") -> Answer:
        if path not in self.objects:
            return _status(404, "NotFound", f'{found.plural} "{found.name}" not found')
        return 200, self.objects[path]

    def _list(self, path: str, found: "Resource", query: dict[str, list[str]]) -> Answer:
        chosen = [
            row
            for where, row in self.objects.items()
            if where.rpartition("/")[0] == path and _selected(row, query.get("labelSelector", []))
        ]
        return 200, {"kind": f"{found.kind}List", "apiVersion": found.version, "items": chosen}

    def _apply(
        self, path: str, found: "Resource", query: dict[str, list[str]], kind: str, body: bytes
    ) -> Answer:
        if kind != APPLY:
            return _status(415, "UnsupportedMediaType", f"the body is {kind}")
        told = json.loads(body)
        if not query.get("fieldManager"):
            return _status(422, "Invalid", "fieldManager: Required value")
        if (told.get("apiVersion"), told.get("kind")) != (found.version, found.kind):
            return _status(400, "BadRequest", "the object is of another kind than its path")
        about = told["metadata"]
        if about["name"] != found.name or about.get("namespace", "") != found.namespace:
            return _status(400, "BadRequest", "the name of the object does not match its path")
        refused = self._admitted(path, found)
        if refused:
            return refused
        new = path not in self.objects
        before = self.objects.get(path, {})
        self.objects[path] = before | told
        return 201 if new else 200, self.objects[path]

    def _admitted(self, path: str, found: "Resource") -> Answer | None:
        if self.policy and path.startswith(self.policy):
            return _status(403, "Forbidden", "a policy of this cluster denies it")
        space = self.objects.get(f"/api/v1/namespaces/{found.namespace}")
        if not found.namespace or path in self.objects:
            return None
        if space is None:
            return _status(404, "NotFound", f'namespaces "{found.namespace}" not found')
        if space["metadata"].get("deletionTimestamp"):
            return _status(403, "Forbidden", "because it is being terminated")
        if found.kind == "Pod" and found.namespace not in self.serviced:
            return _status(403, "Forbidden", "error looking up service account: not found")
        return None

    def _delete(self, path: str, found: "Resource") -> Answer:
        if path not in self.objects:
            return _status(404, "NotFound", f'{found.plural} "{found.name}" not found')
        if found.kind == "Namespace":
            self.objects[path]["metadata"]["deletionTimestamp"] = "2026-12-01T08:00:00Z"
            return 200, self.objects[path]
        return 200, self.objects.pop(path)

    def _proxy(self, path: str) -> Answer:
        base, _, service = path.removesuffix("/proxy/health").rpartition("/services/")
        name = service.partition(":")[0]
        if f"{base}/services/{name}" not in self.objects:
            return _status(404, "NotFound", f'services "{name}" not found')
        pod = self.objects.get(f"{base}/pods/{name}", {})
        if pod.get("status", {}).get("phase") != "Running":
            return _status(503, "ServiceUnavailable", f'no endpoints available for "{name}"')
        return self.web

    # --- controllers and kubelets ----------------------------------------------------------------

    def _work(self) -> None:
        for path, row in list(self.objects.items()):
            name = row["metadata"]["name"]
            if row["kind"] == "Namespace" and row["metadata"].get("deletionTimestamp"):
                gone = [where for where in self.objects if where.startswith(f"{path}/")]
                for where in gone or [path]:  # its content first
                    del self.objects[where]
            elif row["kind"] == "Namespace":
                self.serviced.add(name)
            elif row["kind"] == "PersistentVolumeClaim":
                row["status"] = {"phase": "Bound"}
            elif row["kind"] == "Pod" and row["metadata"]["namespace"] != "kube-system":
                once = row["spec"]["restartPolicy"] == "Never"
                phase = self.pod_phase.get(name, "Succeeded" if once else "Running")
                row["status"] = pod_status(phase)


def pod_status(phase: str, reason: str = "ImagePullBackOff") -> Document:
    ready = "True" if phase == "Running" else "False"
    waits = [{"state": {"waiting": {"reason": reason}}}] if phase == "Pending" else []
    return {
        "phase": phase, "containerStatuses": waits,
        "conditions": [
            {"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": ready},
        ],
    }  # fmt: skip


def a_node(name: str, provider_id: str, why: str = "", images: tuple[str, ...] = ()) -> Document:
    """why: the reason for which it is not Ready."""
    ready = {"type": "Ready", "status": "False" if why else "True"}
    ready |= {"reason": why or "KubeletReady", "message": why and f"{why}, kubelet says"}
    return {
        "kind": "Node", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"providerID": provider_id},
        "status": {"conditions": [ready], "images": [{"names": [image]} for image in images]},
    }  # fmt: skip


# --- its paths ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resource:
    version: str
    plural: str
    kind: str
    namespace: str
    name: str


def _resource(path: str) -> Resource | None:
    for base, plurals in KINDS.items():
        if not path.startswith(f"{base}/"):
            continue
        words, namespace = path.removeprefix(f"{base}/").split("/"), ""
        if words[0] == "namespaces" and len(words) > 2:
            namespace, words = words[1], words[2:]
        kind, namespaced = plurals.get(words[0], ("", False))
        if kind and len(words) <= 2 and namespaced == bool(namespace):
            version = base.removeprefix("/apis/").removeprefix("/api/")
            return Resource(version, words[0], kind, namespace, "".join(words[1:]))
    return None


def _named(kind: str, name: str) -> Document:
    return {"kind": kind, "apiVersion": "v1", "metadata": {"name": name}}


def _selected(row: Document, selectors: list[str]) -> bool:
    labels = row["metadata"].get("labels", {})
    return all(labels.get(s.partition("=")[0]) == s.partition("=")[2] for s in selectors)


def _status(code: int, reason: str, message: str) -> Answer:
    return code, {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message,
        "reason": reason, "code": code,
    }  # fmt: skip


# --- two ways to it -------------------------------------------------------------------------------


class InMemory(httpx.AsyncBaseTransport):
    """Without a wire: as the client certificate of the access says."""

    def __init__(self, server: KubeApiserver, access: KubeAccess) -> None:
        self.server = server
        self.caller = server.who(x509.load_pem_x509_certificate(access.certificate.encode()))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.server.down:
            raise httpx.ConnectError("Connection refused", request=request)
        kind = request.headers.get("content-type", "")
        body = await request.aread()
        status, said = self.server.answer(
            self.caller, request.method, request.url.raw_path.decode(), kind, body
        )
        await asyncio.sleep(0)
        return httpx.Response(status, content=_encoded(said)[1])


def _encoded(said: Document | str) -> tuple[str, bytes]:
    if isinstance(said, str):
        return "text/plain", said.encode()
    return "application/json", json.dumps(said).encode()


class Quiet(ThreadingHTTPServer):
    """Who hangs up in the middle is nobody's news."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass


@contextmanager
def over_the_wire(server: KubeApiserver, certificate: Path, strangers: str = "") -> Iterator[str]:
    """Its URL. certificate: its own, with its key. strangers: CAs whose certificates are let
    through TLS, as Go does with all, so that it is the API which refuses them."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def handle_any(self) -> None:
            assert isinstance(self.connection, ssl.SSLSocket)
            shown = self.connection.getpeercert(binary_form=True)
            caller = server.who(x509.load_der_x509_certificate(shown) if shown else None)
            length = int(self.headers.get("content-length") or 0)
            status, said = server.answer(
                caller, self.command, self.path, self.headers.get("content-type", ""),
                self.rfile.read(length),
            )  # fmt: skip
            kind, body = _encoded(said)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PATCH = do_DELETE = do_POST = handle_any

        def log_message(self, *_: object) -> None:
            pass

    http = Quiet(("127.0.0.1", 0), Handler)
    context = over_tls(http, certificate)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=server.ca + strangers)
    with serving(http):
        yield f"https://127.0.0.1:{http.server_address[1]}"
