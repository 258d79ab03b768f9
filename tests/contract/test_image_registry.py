"""Disks from a registry: what it gives is judged, and who is told a login. By a double with TLS.

tests/contract/test_registry.py does it with a real one.
"""

import base64
import json
import ssl
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from images import registry as module
from provisioning import image as images
from tests.contract.test_image_intakes import DISK, GOOD, HEAD, Site, by_bytes, over, site
from tests.fakes.depot import Depot, a_depot, redirect, reply
from tests.fakes.disks import sha256

__all__ = ["over", "site"]
BASE = "/v2/os/debian"
LOGIN = "Basic " + base64.b64encode(b"seed:word").decode()


def manifest(*layers: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "layers": list(layers), **more}).encode()


def layer(digest: str = f"sha256:{GOOD}", kind: str = "application/x-qcow2") -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest, "size": len(DISK)}


WHOLE = manifest(layer())


@pytest.fixture
def registry(site: Site) -> Iterator[Depot]:
    with a_depot(site.folder, "r.test", tls=True) as depot:
        site.allowed = (depot.authority,)
        site.trust = lambda: ssl.create_default_context(cafile=str(depot.ca))
        depot.replies[f"{BASE}/manifests/12"] = reply(200, WHOLE)
        depot.files[f"{BASE}/blobs/sha256:{GOOD}"] = DISK
        yield depot


def oci(depot: Depot, rest: str = "os/debian:12") -> str:
    return f"oci://{depot.authority}/{rest}"


def asked(depot: Depot) -> list[tuple[str, str]]:
    return [(a.path.partition("?")[0], a.headers.get("authorization", "")) for a in depot.asked]


def test_the_layer_of_an_artifact_is_the_disk(site: Site, registry: Depot) -> None:
    site.done(site.ask(oci(registry)))
    assert images.find(site.image_dir, "fedora").path(site.image_dir, "disk").read_bytes() == DISK


def test_an_artifact_named_by_its_digest_needs_no_other(site: Site, registry: Depot) -> None:
    pinned = f"sha256:{sha256(WHOLE)}"
    registry.replies[f"{BASE}/manifests/{pinned}"] = reply(200, WHOLE)
    site.done(site.ask(oci(registry, f"os/debian@{pinned}"), ""))


def test_a_swapped_manifest_is_refused(site: Site, registry: Depot) -> None:
    registry.replies[f"{BASE}/manifests/sha256:{'0' * 64}"] = reply(200, WHOLE)
    told = site.refused(site.ask(oci(registry, f"os/debian@sha256:{'0' * 64}"), ""))
    assert told.endswith(f"is not the one asked for: its digest is sha256:{sha256(WHOLE)}")


def test_a_swapped_layer_is_refused_before_it_is_fetched(site: Site, registry: Depot) -> None:
    told = site.refused(site.ask(oci(registry), "0" * 64))
    assert told == (
        f"{oci(registry)} is not the image asked for: the SHA-256 of its disk is {GOOD}, not "
        f"{'0' * 64}"
    )
    assert len(registry.asked) == 1


def test_a_layer_that_is_not_what_its_digest_says_is_refused(site: Site, registry: Depot) -> None:
    registry.files[f"{BASE}/blobs/sha256:{GOOD}"] = DISK[:-1] + b"x"
    assert "is not the file asked for" in site.refused(site.ask(oci(registry)))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (manifest(layer(), layer()), "it has 2 layers, and one is taken"),
        (manifest(), "it has 0 layers, and one is taken"),
        (b"{}", "it has no list of layers"),
        (manifest(layer(kind="application/vnd.oci.image.layer.v1.tar+gzip")), "not packed"),
        (manifest(layer(digest=f"md5:{'a' * 32}")), "and not by a SHA-256"),
        (manifest(layer(), manifests=[{}]), "is an index of several artifacts"),
        (b"<html>", "has no manifest that can be read"),
        (b"[" * 100_000, "has no manifest that can be read"),
        (b" " * (5 << 20), "larger than 4 MiB"),
    ],
    ids=["two", "none", "empty", "tar", "md5", "index", "html", "deep", "large"],
)
def test_what_is_no_disk_is_refused(site: Site, registry: Depot, body: bytes, why: str) -> None:
    registry.replies[f"{BASE}/manifests/12"] = reply(200, body)
    assert why in site.refused(site.ask(oci(registry)))


@pytest.mark.parametrize("before", [HEAD + b"\r\n", HEAD], ids=["in it", "in a header"])
def test_a_manifest_that_comes_byte_by_byte_is_not_waited_for(
    site: Site, registry: Depot, over: Event, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    assert module.ANSWER_SECONDS == 60
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.5)
    registry.replies[f"{BASE}/manifests/12"] = by_bytes(over, before)
    told = site.refused(site.ask(oci(registry)))
    assert told == "the registry does not answer: its answer was not whole after 0 s"


# --- logins ---------------------------------------------------------------------------------------


def guarded(depot: Depot, realm: str) -> None:
    """As the token protocol has it: the manifest wants a token that the realm gives."""

    def answer(there: Depot, handler: Any, one: Any) -> None:
        if one.headers.get("authorization") == "Bearer t0ken":
            there.say(handler, 200, WHOLE)
        else:
            said = f'Bearer realm="{realm}",service="r",scope="repository:os/debian:pull"'
            there.say(handler, 401, www_authenticate=said)

    depot.replies[f"{BASE}/manifests/12"] = answer


TOKEN = reply(200, b'{"token": "t0ken"}')


def test_a_token_is_fetched_with_the_login_of_this_very_host(site: Site, registry: Depot) -> None:
    site.logins[registry.authority] = ("seed", "word")
    guarded(registry, registry.url("/token", "https"))
    registry.replies["/token"] = TOKEN
    site.done(site.ask(oci(registry)))
    assert asked(registry) == [
        (f"{BASE}/manifests/12", ""),
        ("/token", LOGIN),
        (f"{BASE}/manifests/12", "Bearer t0ken"),
        (f"{BASE}/blobs/sha256:{GOOD}", "Bearer t0ken"),
    ]
    assert "scope=repository%3Aos%2Fdebian%3Apull" in registry.asked[1].path


def test_a_token_service_elsewhere_is_told_no_login(site: Site, registry: Depot) -> None:
    site.logins[registry.authority] = ("seed", "word")
    with a_depot(site.folder, "tokens.test", tls=True) as other:
        other.replies["/token"] = TOKEN
        guarded(registry, other.url("/token", "https"))
        told = site.refused(site.ask(oci(registry)))
        assert f"this one is at {other.authority}" in told
        assert other.asked == []

        site.allowed = (*site.allowed, other.authority)
        both = ssl.create_default_context(cafile=str(registry.ca))
        both.load_verify_locations(other.ca)
        site.trust = lambda: both
        site.done(site.ask(oci(registry)))
        assert asked(other) == [("/token", "")]


def test_a_token_service_without_tls_is_not_asked(site: Site, registry: Depot) -> None:
    site.logins[registry.authority] = ("seed", "word")
    guarded(registry, registry.url("/token", "http"))
    assert "gives tokens without TLS" in site.refused(site.ask(oci(registry)))
    assert len(registry.asked) == 1


def test_a_redirect_takes_no_login_along(site: Site, registry: Depot) -> None:
    """As registries do with a bucket behind them."""
    site.logins[registry.authority] = ("seed", "word")
    guarded(registry, registry.url("/token", "https"))
    registry.replies["/token"] = TOKEN
    with a_depot(site.folder, "bucket.test", tls=True) as bucket:
        bucket.files["/blob"] = DISK
        site.allowed = (*site.allowed, bucket.authority)
        both = ssl.create_default_context(cafile=str(registry.ca))
        both.load_verify_locations(bucket.ca)
        site.trust = lambda: both
        target = redirect(bucket.url("/blob", "https"))
        registry.replies[f"{BASE}/blobs/sha256:{GOOD}"] = target
        site.done(site.ask(oci(registry)))
        assert asked(bucket) == [("/blob", "")]


def test_the_login_of_another_host_is_not_told(site: Site, registry: Depot) -> None:
    site.logins["r.test"] = ("seed", "word")  # the same name, another port
    registry.replies[f"{BASE}/manifests/12"] = reply(401, www_authenticate='Basic realm="r"')
    told = site.refused(site.ask(oci(registry)))
    assert told == f"the registry {registry.authority} does not let us read os/debian"
    assert {header for _, header in asked(registry)} == {""}


def test_a_registry_that_nobody_vouches_for_is_told_nothing(site: Site, registry: Depot) -> None:
    site.logins[registry.authority] = ("seed", "word")
    site.trust = ssl.create_default_context
    assert "its certificate is not trusted" in site.refused(site.ask(oci(registry)))
    assert registry.asked == []
