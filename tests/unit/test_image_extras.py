"""What a site adds: each value has a grammar, and no secret gets into an image."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from images import layers
from images.extras import LIMIT, Extras, File, parse, read
from provisioning.errors import Invalid

KEY = "ssh-ed25519 " + "A" * 68 + " somebody@site"
PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"


def certificate(ca: bool) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(1))
    made = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def test_a_whole_document_is_read(tmp_path: Path) -> None:
    path = tmp_path / "extras.toml"
    path.write_text(
        f"""
ca = ['''{certificate(ca=True)}''']
proxy = "http://proxy.example:3128"
no_proxy = ["10.0.0.0/8", ".site"]
packages = ["htop", "libstdc++6", "g++"]
[[users]]
name = "ops"
ssh_keys = ["{KEY}"]
sudo = true
[[files]]
path = "/etc/motd"
content = "hello"
mode = "0644"
"""
    )
    found = read(path)
    assert found.packages == ("htop", "libstdc++6", "g++")
    assert found.users[0].sudo
    assert found.asked() == {"ca", "proxy", "no_proxy", "packages", "users", "files"}


def test_the_digest_is_of_what_is_asked_not_of_how_it_is_written() -> None:
    assert Extras().digest() == ""
    assert parse({}) == Extras()
    one, two = parse({"packages": ["htop"]}), parse({"packages": ["htop"], "ca": []})
    assert one.digest() == two.digest() != parse({"packages": ["jq"]}).digest()


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"package": ["htop"]}, "package"),
        ({"packages": ["HTOP"]}, "packages.0"),
        ({"packages": ["htop; reboot"]}, "packages.0"),
        ({"packages": ["-o=Dpkg::Pre-Invoke::=id"]}, "packages.0"),
        ({"packages": ["htop\n"]}, "packages.0"),
        ({"packages": ["htop-"]}, "packages.0"),
        ({"files": [{"path": "/a\n/etc/shadow", "content": ""}]}, "printable ASCII"),
        ({"files": [{"path": "/a b", "content": ""}]}, "printable ASCII"),
        ({"files": [{"path": "/a\0", "content": ""}]}, "printable ASCII"),
        ({"packages": ["htop", "htop"]}, "htop is there twice"),
        ({"users": [{"name": "root", "ssh_keys": [KEY]}]}, "account of the image"),
        ({"users": [{"name": "a b", "ssh_keys": [KEY]}]}, "users.0.name"),
        ({"users": [{"name": "ops", "ssh_keys": []}]}, "users.0.ssh_keys"),
        ({"users": [{"name": "ops", "ssh_keys": [KEY + "\n"]}]}, "no public SSH key"),
        ({"users": [{"name": "ops", "ssh_keys": [PRIVATE]}]}, "no public SSH key"),
        ({"users": [{"name": "ops", "ssh_keys": [KEY], "password": "x"}]}, "never a password"),
        ({"users": [{"name": "ops", "ssh_keys": [KEY], "hashed_passwd": "x"}]}, "never a password"),
        ({"proxy": "http://me:word@proxy:3128"}, "readable on every server"),
        ({"proxy": "ftp://proxy"}, "proxy is http"),
        ({"proxy": "http://proxy:3128\n"}, "proxy is http"),
        ({"proxy": 'http://proxy"; }'}, "proxy is http"),
        ({"no_proxy": ['"; }']}, "no_proxy.0"),
        ({"ca": ["not a certificate"]}, "no PEM certificate"),
        ({"ca": [PRIVATE]}, "private key"),
        ({"files": [{"path": "etc/motd", "content": ""}]}, "absolute"),
        ({"files": [{"path": "/etc/../x", "content": ""}]}, "absolute"),
        ({"files": [{"path": "/etc//x", "content": ""}]}, "absolute"),
        ({"files": [{"path": "/etc/shadow", "content": ""}]}, "not a site's"),
        ({"files": [{"path": "/proc/x", "content": ""}]}, "not a site's"),
        ({"files": [{"path": "/boot/grub/grub.cfg", "content": ""}]}, "not a site's"),
        ({"files": [{"path": "/etc/key", "content": PRIVATE}]}, "no place for secrets"),
        ({"files": [{"path": "/etc/x", "content": "", "mode": "4755"}]}, "files.0.mode"),
        ({"files": [{"path": "/etc/x", "content": "", "mode": "0777"}]}, "files.0.mode"),
        ({"files": [{"path": "/x", "content": "a" * (65 << 10)}]}, "files.0.content"),
        ({"packages": "htop"}, "packages"),
        (["htop"], "the document"),
        (7, "the document"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(document: object, why: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(document)
    assert why in str(caught.value)
    assert caught.value.remedy


def test_a_certificate_that_is_no_authority_is_refused() -> None:
    assert parse({"ca": [certificate(ca=True)]}).ca
    with pytest.raises(Invalid, match="no CA's"):
        parse({"ca": [certificate(ca=False)]})


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"a = [", id="half"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param(b"a = " + b"[" * 50_000, id="deep"),
        pytest.param(b"#" * (LIMIT + 1), id="long"),
        pytest.param(b"packages = ['a1']\npackages = ['b1']", id="twice"),
    ],
)
def test_a_file_that_is_no_document_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "extras.toml"
    path.write_bytes(raw)
    with pytest.raises(Invalid):
        read(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be read"):
        read(tmp_path / "none.toml")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                "ca proxy no_proxy packages users files name ssh_keys path content".split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_is_given_is_a_document_or_refused(document: object) -> None:
    try:
        found = parse(document)
    except Invalid:
        return
    assert parse(json.loads(found.model_dump_json())).digest() == found.digest()
    for file in found.files:
        assert file.path.startswith("/")
        assert ".." not in file.path.split("/")


def test_a_link_does_not_lead_out_of_the_image(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "usr/lib").mkdir(parents=True)
    outside.mkdir()
    (root / "lib").symlink_to("usr/lib")
    (root / "away").symlink_to(outside)
    layers.put(root, File(path="/lib/new/file", content="in", mode="0755"))
    assert (root / "usr/lib/new/file").read_text() == "in"
    assert (root / "usr/lib/new/file").stat().st_mode & 0o777 == 0o755
    with pytest.raises(Invalid, match="leads out"):
        layers.put(root, File(path="/away/file", content="out"))
    assert list(outside.iterdir()) == []
    (root / "etc").mkdir()
    (root / "etc/link").symlink_to(outside / "file")
    layers.put(root, File(path="/etc/link", content="in"))
    assert list(outside.iterdir()) == []


def test_a_recipe_that_cannot_have_an_extra_says_so() -> None:
    asked = parse({"users": [{"name": "ops", "ssh_keys": [KEY]}], "packages": ["htop"]})
    layers.check(asked, layers.ALL, "debian", ("deb http://m/debian trixie main",))
    with pytest.raises(Invalid, match="takes no users"):
        layers.check(asked, frozenset({"packages"}), "ramdisk", ())
    with pytest.raises(Invalid, match="folder of this machine"):
        layers.check(asked, layers.ALL, "debian", ("deb file:/srv/debian trixie main",))
