"""Seed's own way to a cluster's API, against a server that talks TLS and asks who one is."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from provisioning import kube_api, kube_check, kube_steps, pki
from provisioning.errors import KubeRefused, KubeUnavailable
from provisioning.kube_api import KubeAccess, KubeApi, over_tls, talk
from provisioning.pki import Pair, Person
from tests.fakes.kube_apiserver import KubeApiserver, a_node, over_the_wire, pod_status

OWN = kube_steps.OWN
ADA = Person("ada", ("seed:lab",))
TOKEN = "abcdef.0123456789abcdef"
AT = datetime.now(UTC).replace(microsecond=0)


def a_ca() -> Pair:
    return pki.make_authority("kubernetes", AT)


def a_server_certificate(ca: Pair, file: Path, vip: str = "127.0.0.1") -> Path:
    """As kubeadm makes an API server's: for its address."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = load_pem_private_key(ca.key.encode(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificate(ca.public.encode()).subject
    address = x509.IPAddress(ip_address(vip))
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(AT - timedelta(hours=1))
        .not_valid_after(AT + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
        )
        .sign(signer, hashes.SHA256())
    )
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(made.public_bytes(Encoding.PEM) + plain)
    return file


def an_access(url: str, trusted: Pair, signer: Pair, person: Person = OWN) -> KubeAccess:
    key = ec.generate_private_key(ec.SECP256R1())
    told = pki.client_certificate(signer, key.public_key(), person, AT)
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return KubeAccess(url, trusted.public, told, plain)


@pytest.fixture
def ca() -> Pair:
    return a_ca()


@pytest.fixture
def stranger() -> Pair:
    return a_ca()


@pytest.fixture
def server(ca: Pair) -> KubeApiserver:
    return KubeApiserver(ca.public)


@pytest.fixture
def url(server: KubeApiserver, ca: Pair, stranger: Pair, tmp_path: Path) -> Iterator[str]:
    certificate = a_server_certificate(ca, tmp_path / "server.pem")
    with over_the_wire(server, certificate, stranger.public) as url:
        yield url


def test_a_selector_in_a_path_is_asked_for(server: KubeApiserver, url: str, ca: Pair) -> None:
    for name, label in (("coredns-1", "kube-dns"), ("metrics", "metrics-server")):
        server.objects[f"{kube_api.PODS}/{name}"] = {
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "kube-system", "labels": {"k8s-app": label}},
        }

    async def ask(api: KubeApi) -> list[str]:
        return [kube_api.name_of(one) for one in kube_api.items(await api.get(kube_check.DNS))]

    assert talk(over_tls, an_access(url, ca, ca), ask) == ["coredns-1"]


def test_a_look_tells_who_is_ready_and_which_pods_do_not_run(
    server: KubeApiserver, url: str, ca: Pair
) -> None:
    server.objects |= {
        "/api/v1/nodes/one": a_node("one", "seed://1"),
        "/api/v1/nodes/two": a_node("two", "seed://2", "NetworkPluginNotReady"),
        "/api/v1/nodes/new": {"kind": "Node", "metadata": {"name": "new"}},
    }
    for name, phase in (("coredns", "Pending"), ("etcd", "Running"), ("job", "Succeeded")):
        server.objects[f"{kube_api.PODS}/{name}"] = {
            "kind": "Pod", "metadata": {"name": name, "namespace": "kube-system"},
            "status": pod_status(phase),
        }  # fmt: skip
    seen = talk(over_tls, an_access(url, ca, ca), kube_api.look)
    assert seen.unready == ""
    assert {(n.name, n.provider_id, n.why) for n in seen.nodes} == {
        ("one", "seed://1", ""),
        ("two", "seed://2", "NetworkPluginNotReady: NetworkPluginNotReady, kubelet says"),
        ("new", "", "it says nothing of Ready yet"),
    }
    assert seen.pods == ("coredns: ImagePullBackOff",)
    server.lacks = "etcd"
    assert talk(over_tls, an_access(url, ca, ca), kube_api.look).unready == "etcd"


def test_nobody_without_a_right_gets_in(
    server: KubeApiserver, url: str, ca: Pair, stranger: Pair
) -> None:
    with pytest.raises(KubeRefused, match="Unauthorized") as problem:
        talk(over_tls, an_access(url, ca, stranger), kube_api.look)
    assert problem.value.said == 401
    ada = an_access(url, ca, ca, ADA)
    with pytest.raises(KubeRefused, match='User "ada" cannot') as problem:
        talk(over_tls, ada, kube_api.look)
    assert problem.value.said == 403
    with pytest.raises(KubeUnavailable, match="certificate verify failed"):
        talk(over_tls, an_access(url, stranger, ca), kube_api.look)


def test_a_projects_people_get_in_until_their_binding_is_deleted(url: str, ca: Pair) -> None:
    own, ada = an_access(url, ca, ca), an_access(url, ca, ca, ADA)
    bob = an_access(url, ca, ca, Person("bob", ("seed:other",)))
    for _ in range(2):  # a crash in between
        talk(over_tls, own, lambda api: kube_steps.bind(api, "lab"))
    talk(over_tls, ada, kube_api.look)
    with pytest.raises(KubeRefused):
        talk(over_tls, bob, kube_api.look)
    talk(over_tls, own, lambda api: api.delete(f"{kube_steps.BINDINGS}/seed:lab"))
    with pytest.raises(KubeRefused):
        talk(over_tls, ada, kube_api.look)


def test_what_is_not_there_is_none_and_gone(url: str, ca: Pair) -> None:
    async def ask(api: KubeApi) -> object:
        await api.delete("/api/v1/namespaces/none")
        return await api.find("/api/v1/namespaces/none")

    assert talk(over_tls, an_access(url, ca, ca), ask) is None
    with pytest.raises(KubeRefused, match="could not find the requested resource"):
        talk(over_tls, an_access(url, ca, ca), lambda api: api.get("/api/v1/nonsense"))


def test_a_token_is_renewed_before_it_ends_and_left_alone_otherwise(
    server: KubeApiserver, url: str, ca: Pair
) -> None:
    own, path = an_access(url, ca, ca), f"{kube_steps.SECRETS}/bootstrap-token-abcdef"

    def keep(at: datetime) -> dict[str, str]:
        server.asked.clear()
        talk(over_tls, own, lambda api: kube_steps.keep_token(api, TOKEN, ("group",), at))
        found: dict[str, str] = server.objects[path]["data"]
        return found

    first = keep(AT)
    assert server.objects[path]["type"] == "bootstrap.kubernetes.io/token"
    assert keep(AT + timedelta(minutes=59)) == first
    assert server.asked == [f"GET {path}"]
    assert keep(AT + timedelta(minutes=61))["expiration"] != first["expiration"]
    server.objects[path]["data"]["expiration"] = "bm90IGEgdGltZQ=="
    assert keep(AT) == first
    del server.objects[path]["data"]["expiration"]
    assert "expiration" not in keep(AT), "somebody wants it for ever"


@contextmanager
def a_listener(answer: bytes, every: float = 0.0) -> Iterator[str]:
    """Says so many bytes to whoever comes, one by one where `every` is given."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def serve() -> None:
            line, _ = listener.accept()
            with line:
                for n in range(len(answer)):
                    if over.wait(every):
                        return
                    line.sendall(answer[n : n + 1])
                over.wait(30)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            thread.join(10)


@pytest.mark.parametrize("answer", [b"", b"\x16\x03\x03\x40\x00" + b"\0" * 100], ids=["no", "drip"])
def test_who_answers_slowly_is_left_in_time(answer: bytes, ca: Pair) -> None:
    with a_listener(answer, 0.05) as url:
        began = time.monotonic()
        with pytest.raises(KubeUnavailable, match=r"nothing whole within|takes too long"):
            talk(over_tls, an_access(url, ca, ca), kube_api.look, 0.5)
        assert time.monotonic() - began < 5


NOWHERE = "255.255.255.255"
"""No TCP gets there."""


def through_a_door(url: str, ca: Pair) -> KubeAccess:
    port = int(url.rpartition(":")[2])
    doors = (("127.0.0.1", 1), ("127.0.0.1", port))
    return replace(an_access(f"https://{NOWHERE}:6443", ca, ca), doors=doors)


def test_where_there_is_no_way_to_the_vip_an_api_server_that_proves_it_is_asked(
    server: KubeApiserver, ca: Pair, stranger: Pair, tmp_path: Path
) -> None:
    server.objects["/api/v1/nodes/one"] = a_node("one", "seed://1")
    certificate = a_server_certificate(ca, tmp_path / "vip.pem", NOWHERE)
    with over_the_wire(server, certificate, stranger.public) as url:
        seen = talk(over_tls, through_a_door(url, ca), kube_api.look)
    assert [node.name for node in seen.nodes] == ["one"]


def test_a_door_that_cannot_prove_the_vip_leads_nowhere(url: str, ca: Pair) -> None:
    with pytest.raises(KubeUnavailable, match="certificate is not valid for 'its VIP'"):
        talk(over_tls, through_a_door(url, ca), kube_api.look)


def test_a_vip_that_is_there_is_asked_whoever_else_is(url: str, ca: Pair) -> None:
    refused = replace(an_access("https://127.0.0.1:1", ca, ca), doors=through_a_door(url, ca).doors)
    with pytest.raises(KubeUnavailable, match="does not answer"):
        talk(over_tls, refused, kube_api.look)


def test_who_speaks_no_tls_or_is_not_there_is_unavailable(ca: Pair) -> None:
    with a_listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        with pytest.raises(KubeUnavailable, match="does not answer") as problem:
            talk(over_tls, an_access(url, ca, ca), kube_api.look)
        assert problem.value.retryable
    with pytest.raises(KubeUnavailable, match="does not answer"):
        talk(over_tls, an_access(url, ca, ca), kube_api.look)
    broken = replace(an_access(url, ca, ca), certificate="none")
    with pytest.raises(KubeUnavailable):
        talk(over_tls, broken, kube_api.look)


def test_a_key_is_shown_nowhere(ca: Pair) -> None:
    assert "PRIVATE" not in repr(an_access("https://127.0.0.1:1", ca, ca))


@pytest.mark.parametrize(
    "said",
    [b"", b"[]", b'"ok"', b"{", b'{"items": 7}', b'{"items": [1, {"metadata": 3, "status": []}]}'],
)
def test_an_answer_that_is_none_breaks_nothing(
    said: bytes, server: KubeApiserver, url: str, ca: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "answer", lambda *_: (200, said.decode()))
    try:
        seen = talk(over_tls, an_access(url, ca, ca), kube_api.look)
    except KubeUnavailable:
        return
    assert all(node.why for node in seen.nodes)
