"""Where images come from, and what proves them: judged before anybody is asked."""

import pytest

from provisioning.errors import Forbidden, Invalid
from provisioning.sources import check_allowed, digest, split

GOOD = "0123456789abcdef" * 4


@pytest.mark.parametrize("given", [GOOD, GOOD.upper(), f"sha256:{GOOD}", f" {GOOD}\n"])
def test_a_digest(given: str) -> None:
    assert digest(given) == GOOD


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("d41d8cd98f00b204e9800998ecf8427e", "this is an MD5, and only a SHA-256 is taken"),
        ("a" * 40, "this is a SHA-1, and only a SHA-256 is taken"),
        ("a" * 128, "this is a SHA-512, and only a SHA-256 is taken"),
        ("https://images.test/SHA256SUMS", "a digest is given as itself, not as a URL: whoever can "
         "change the image there can change its checksum, too"),
        ("", "'' is no SHA-256: 64 hex digits"),
        (GOOD[1:], f"'{GOOD[1:]}' is no SHA-256: 64 hex digits"),
        ("md5:" + "a" * 32, f"'md5:{'a' * 32}' is no SHA-256: 64 hex digits"),
    ],
)  # fmt: skip
def test_what_is_no_digest(given: str, why: str) -> None:
    with pytest.raises(Invalid) as caught:
        digest(given)
    assert str(caught.value) == why


def test_a_url() -> None:
    found = split("https://Images.Test:8443/a/b.qcow2?x=1")
    assert (found.authority, found.path) == ("images.test:8443", "/a/b.qcow2?x=1")
    assert split("http://[2001:db8::1]/x").authority == "[2001:db8::1]"
    assert split("https://images.test:443").url == "https://images.test/"


def test_an_artifact_of_a_registry() -> None:
    found = split("oci://r.test:5000/os/debian_x:12.1")
    assert (found.authority, found.path, found.reference) == ("r.test:5000", "os/debian_x", "12.1")
    assert split("oci://r.test/os").reference == "latest"
    assert split(f"oci://r.test/os@sha256:{GOOD}").reference == f"sha256:{GOOD}"


def test_a_file_of_this_machine_is_no_source() -> None:
    with pytest.raises(Invalid) as caught:
        split("file:///etc/shadow")
    assert "not taken from a file:// URL" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "ftp://images.test/x", "https://user:pw@images.test/x", "https://images.test/x#y",
        "https://images.test/a b", "https://images.test/a\nb", "https://images.test:0/x",
        "https://images.test:99999/x", "https:///x", "gopher://x/", "/etc/shadow", "",
        "https://2130706433/x", "https://0x7f.1/x", "https://127.1/x", "oci://r.test/UPPER",
        "oci://r.test/a@sha256:abc", "oci://r.test/a@md5:abc", "oci://r.test", "oci://u@r.test/a",
        "https://images.test/" + "a" * 2048, "https://images.test\\@evil.test/x",
    ],
)  # fmt: skip
def test_what_is_no_source(text: str) -> None:
    with pytest.raises(Invalid):
        split(text)


def test_only_listed_hosts_are_asked() -> None:
    check_allowed(split("https://images.test/x"), ["Images.Test"])
    check_allowed(split("http://images.test/x"), ["images.test"])
    check_allowed(split("https://images.test:8443/x"), ["images.test:8443"])
    for url in ("https://images.test:8443/x", "https://a.images.test/x", "https://test/x"):
        with pytest.raises(Forbidden):
            check_allowed(split(url), ["images.test"])
    with pytest.raises(Forbidden) as caught:
        check_allowed(split("https://images.test:8443/x"), [])
    assert str(caught.value) == (
        "images are fetched from no host at all, and this one is at images.test:8443"
    )
    assert 'allowed_hosts = ["images.test:8443"]' in caught.value.remedy
