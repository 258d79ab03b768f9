"""A cluster's certificates, each looked at by openssl: it is not the library that made them."""

import base64
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from provisioning import pki
from provisioning.errors import Invalid
from provisioning.pki import Pair, Person
from tests.fakes.kubeconfigs import KEYS, WEAK, a_kubeconfig, a_request, parted

NOW = datetime(2026, 11, 29, 10, 0, tzinfo=UTC)
SERVER = "https://10.30.0.5:6443"
ADA = Person("ada", ("seed:lab", "seed:web"))


def openssl(*argv: str, given: str = "") -> str:
    done = subprocess.run(
        ["openssl", *argv], input=given, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shown(certificate: str, *what: str) -> str:
    return openssl("x509", "-noout", *what, given=certificate).strip()


def verified(folder: Path, ca: str, certificate: str, at: datetime, purpose: str) -> str:
    """What openssl says of this chain at that time; "OK" if it holds."""
    (folder / "ca.crt").write_text(ca)
    (folder / "client.crt").write_text(certificate)
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-CAfile", str(folder / "ca.crt"),
         "-no-CApath", "-attime", str(int(at.timestamp())), "-purpose", purpose,
         str(folder / "client.crt")],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    return "OK" if done.returncode == 0 else done.stdout + done.stderr


def public_of(key: str) -> str:
    return openssl("pkey", "-pubout", given=key)


class Hidden(dict[str, str]):
    """What pytest does not print where a test fails."""

    def __repr__(self) -> str:
        return f"<{len(self)} secrets>"


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return Hidden(pki.certificates(NOW))


@pytest.fixture(scope="module")
def ca(made: dict[str, str]) -> Pair:
    return Pair(made["ca.crt"], made["ca.key"])


@pytest.fixture(scope="module")
def config(ca: Pair) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(a_kubeconfig(ca, SERVER, ADA, NOW))
    return read


@pytest.fixture(scope="module")
def client(config: dict[str, Any]) -> str:
    return base64.b64decode(config["users"][0]["user"]["client-certificate-data"]).decode()


def test_the_files_are_those_that_kubeadm_looks_for(made: dict[str, str]) -> None:
    assert sorted(made) == [
        "ca.crt", "ca.key", "etcd/ca.crt", "etcd/ca.key", "front-proxy-ca.crt",
        "front-proxy-ca.key", "sa.key", "sa.pub",
    ]  # fmt: skip


@pytest.mark.parametrize(("path", "name"), pki.AUTHORITIES.items())
def test_a_ca_is_one_and_says_what_it_is_for(path: str, name: str, made: dict[str, str]) -> None:
    told = shown(made[f"{path}.crt"], "-text")
    assert f"Subject: CN = {name}\n" in told
    assert f"Issuer: CN = {name}\n" in told
    assert "X509v3 Basic Constraints: critical\n                CA:TRUE\n" in told
    assert "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n" in told
    assert f"X509v3 Subject Alternative Name: \n                DNS:{name}\n" in told
    assert "X509v3 Subject Key Identifier" in told
    assert "ASN1 OID: prime256v1" in told


@pytest.mark.parametrize("path", pki.AUTHORITIES)
def test_a_ca_holds_for_ten_years(path: str, made: dict[str, str]) -> None:
    told = shown(made[f"{path}.crt"], "-startdate", "-enddate")
    assert told == "notBefore=Nov 29 09:55:00 2026 GMT\nnotAfter=Nov 26 10:00:00 2036 GMT"


@pytest.mark.parametrize("path", pki.AUTHORITIES)
def test_a_ca_verifies_itself_and_none_of_the_others(
    path: str, made: dict[str, str], tmp_path: Path
) -> None:
    for other in pki.AUTHORITIES:
        said = verified(tmp_path, made[f"{other}.crt"], made[f"{path}.crt"], NOW, "any")
        assert (said == "OK") == (other == path), said


@pytest.mark.parametrize("path", pki.AUTHORITIES)
def test_the_key_is_the_certificates_own(path: str, made: dict[str, str]) -> None:
    assert public_of(made[f"{path}.key"]) == shown(made[f"{path}.crt"], "-pubkey") + "\n"


def test_service_accounts_have_an_rsa_pair(made: dict[str, str]) -> None:
    assert public_of(made["sa.key"]) == made["sa.pub"]
    told = openssl("pkey", "-pubin", "-text", "-noout", given=made["sa.pub"])
    assert "Public-Key: (2048 bit)" in told
    assert "Modulus:" in told


def test_no_two_clusters_have_anything_alike(made: dict[str, str]) -> None:
    other = pki.certificates(NOW)
    assert not set(made.values()) & set(other.values())


@pytest.mark.parametrize("path", pki.AUTHORITIES)
def test_the_hash_is_openssls_own_of_the_public_key(path: str, made: dict[str, str]) -> None:
    public = shown(made[f"{path}.crt"], "-pubkey")
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-outform", "DER"],
        input=public.encode(), capture_output=True, timeout=20, check=True,
    ).stdout  # fmt: skip
    told = subprocess.run(
        ["openssl", "dgst", "-sha256", "-hex"], input=der, capture_output=True, timeout=20,
        check=True,
    ).stdout.decode()  # fmt: skip
    assert pki.ca_cert_hash(made[f"{path}.crt"]) == f"sha256:{told.split()[-1]}"


def test_a_token_is_one_that_kubeadm_takes() -> None:
    tokens = {pki.bootstrap_token() for _ in range(200)}
    assert len(tokens) == 200
    assert all(re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", token) for token in tokens)


def test_a_person_is_a_user_with_groups(client: str) -> None:
    assert shown(client, "-subject") == "subject=O = seed:lab, O = seed:web, CN = ada"


def test_a_persons_certificate_is_for_clients_alone(
    client: str, made: dict[str, str], tmp_path: Path
) -> None:
    assert verified(tmp_path, made["ca.crt"], client, NOW, "sslclient") == "OK"
    assert "unsuitable certificate purpose" in verified(
        tmp_path, made["ca.crt"], client, NOW, "sslserver"
    )
    assert "unable to get" in verified(
        tmp_path, made["front-proxy-ca.crt"], client, NOW, "sslclient"
    )
    assert "CA:FALSE" in shown(client, "-text")


def test_it_holds_from_minutes_ago_until_twelve_hours_later(
    client: str, made: dict[str, str], tmp_path: Path
) -> None:
    seen = {
        minutes: verified(
            tmp_path, made["ca.crt"], client, NOW + timedelta(minutes=minutes), "sslclient"
        )
        for minutes in (-6, -4, 0, 719, 721)
    }
    assert [minutes for minutes, said in seen.items() if said == "OK"] == [-4, 0, 719]
    assert "not yet valid" in seen[-6]
    assert "expired" in seen[721]


def test_a_shorter_life_is_kept(ca: Pair) -> None:
    text = a_kubeconfig(ca, SERVER, ADA, NOW, timedelta(hours=1))
    user = yaml.safe_load(text)["users"][0]["user"]
    certificate = base64.b64decode(user["client-certificate-data"]).decode()
    assert shown(certificate, "-enddate") == "notAfter=Nov 29 11:00:00 2026 GMT"


def test_the_kubeconfig_fits_together(config: dict[str, Any], client: str, ca: Pair) -> None:
    assert (config["apiVersion"], config["kind"]) == ("v1", "Config")
    (cluster,), (user,), (context,) = config["clusters"], config["users"], config["contexts"]
    assert config["current-context"] == context["name"] == "ada@web"
    assert context["context"] == {"cluster": cluster["name"], "user": user["name"]}
    assert cluster["cluster"]["server"] == SERVER
    authority = base64.b64decode(cluster["cluster"]["certificate-authority-data"]).decode()
    assert authority == ca.public
    key = base64.b64decode(user["user"]["client-key-data"]).decode()
    assert public_of(key) == shown(client, "-pubkey") + "\n"


@pytest.mark.parametrize("how", KEYS)
def test_a_request_of_any_good_key_becomes_a_certificate_of_that_key(
    how: str, ca: Pair, tmp_path: Path
) -> None:
    key, request = parted(a_request(KEYS[how]))
    told = pki.client_certificate(ca, pki.own_key(request), ADA, NOW)
    assert verified(tmp_path, ca.public, told, NOW, "sslclient") == "OK"
    assert public_of(key) == shown(told, "-pubkey") + "\n"


def test_whom_a_request_names_does_not_count(ca: Pair) -> None:
    _, request = parted(a_request(subject="/O=system:masters/CN=root"))
    told = pki.client_certificate(ca, pki.own_key(request), ADA, NOW)
    assert shown(told, "-subject") == "subject=O = seed:lab, O = seed:web, CN = ada"


@pytest.mark.parametrize("how", WEAK)
def test_a_request_of_another_key_is_refused(how: str) -> None:
    _, request = parted(a_request(WEAK[how]))
    with pytest.raises(Invalid, match="csr: its key is none of"):
        pki.own_key(request)


def test_a_request_that_another_key_signed_is_refused() -> None:
    _, request = parted(a_request())
    lines = request.splitlines()
    der = bytearray(base64.b64decode("".join(lines[1:-1])))
    der[-1] ^= 1
    told = "\n".join([lines[0], base64.b64encode(der).decode(), lines[-1]])
    with pytest.raises(Invalid, match="csr: it is not signed with its own key"):
        pki.own_key(told)


@pytest.mark.parametrize("text", ["", "no", "-----BEGIN CERTIFICATE REQUEST-----\n", "\0" * 99])
def test_what_is_no_request_is_refused(text: str, ca: Pair) -> None:
    for told in (text, ca.public):
        with pytest.raises(Invalid, match="csr: it is no certificate request") as problem:
            pki.own_key(told)
        assert problem.value.remedy


@pytest.mark.parametrize(
    "person",
    [
        Person("system:kube-controller-manager"),
        Person(""),
        Person("a" * 65),
        Person("a\nb"),
        Person("ada", ("seed:" + "p" * 60,)),
        Person("ada", ("",)),
    ],
    ids=repr,
)
def test_a_name_that_would_be_another_or_none_is_refused(person: Person, ca: Pair) -> None:
    with pytest.raises(Invalid) as problem:
        a_kubeconfig(ca, SERVER, person, NOW)
    assert problem.value.remedy


def test_no_private_key_is_shown(ca: Pair) -> None:
    assert "PRIVATE" not in repr(ca)


def test_a_request_of_no_known_version_is_none() -> None:
    """The DER of a good one with its version, 0, made 7: cryptography has an error of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    good = asked.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    assert good.count(b"\x02\x01\x00") == 1
    wrong = base64.encodebytes(good.replace(b"\x02\x01\x00", b"\x02\x01\x07")).decode()
    text = f"-----BEGIN CERTIFICATE REQUEST-----\n{wrong}-----END CERTIFICATE REQUEST-----\n"
    with pytest.raises(Invalid, match="csr: it is no certificate request"):
        pki.own_key(text)
