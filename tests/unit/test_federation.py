"""Whose token it is, who they are here, and what is no token at all: the parts without a wire."""

import asyncio
import gc
import json
import socket
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import KeySet
from pydantic import ValidationError

from api import oidc
from api.federation import Federation
from api.grants import Grant, GroupGrant, KeystoneSettings, OidcSettings, ProjectGrant
from api.keystone import Credentials, Keystone, Token, credentials
from api.oidc import Keys, Oidc, kid_of, usable
from api.provider import IdentityUnavailable, Peer, caller_of, harmless
from api.roles import Role
from provisioning.errors import Forbidden, Unauthenticated
from provisioning.models import now
from provisioning.store import Store
from provisioning.tenants import Project
from seed.host import sign_on, users
from seed.host.setup import to_toml
from seed.settings import Settings
from tests.fakes import issuer
from tests.fakes.settings import some_settings
from tests.fakes.store import new_store

OPERATOR = GroupGrant(group="dc-ops", roles=(Role.OPERATOR, Role.VIEWER))
WEB = GroupGrant(group="web-team", roles=(Role.CLAIMER,), project="web")
DB = GroupGrant(group="db-team", roles=(Role.CLAIMER, Role.VIEWER), project="db")


def settings(**changes: Any) -> OidcSettings:
    told = {"issuer": issuer.ISSUER, "client_id": issuer.AUDIENCE, "grants": (OPERATOR, WEB, DB)}
    return OidcSettings(**(told | changes))


def checked(token: str, **changes: Any) -> dict[str, Any]:
    kid_of(token)
    return Oidc(settings(**changes)).verified(token, issuer.key_set())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = new_store(tmp_path)
    with store.write() as session:
        session.add(Project(name="web"))
        session.add(Project(name="db"))
        session.add(Project(name="old", disabled_at=now()))
    return store


# What is a token of the provider's, for us


@pytest.mark.parametrize("alg", issuer.KEYS)
def test_a_token_of_each_algorithm_on_our_list_is_good(alg: str) -> None:
    assert checked(issuer.signed(issuer.claims(), alg))["sub"] == "u-1"


def test_eddsa_under_its_old_name_is_good() -> None:
    token = issuer.signed(issuer.claims(), "Ed25519")
    assert checked(token)["sub"] == "u-1"
    with pytest.warns(match="EdDSA is deprecated"):
        old = issuer.signed(issuer.claims(), "EdDSA", issuer.KEYS["Ed25519"])
    assert checked(old)["sub"] == "u-1"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["other", issuer.AUDIENCE]},
        {"typ": "ID"},
    ],
    ids=["audiences", "typ"],
)
def test_these_are_good(changes: dict[str, Any]) -> None:
    assert checked(issuer.signed(issuer.claims(**changes)))


@pytest.mark.parametrize(("name", "seconds"), [("exp", -310), ("nbf", 10)])
def test_clocks_that_differ_a_little_are_good(name: str, seconds: int) -> None:
    told = issuer.claims()
    told[name] = told["exp" if name == "exp" else "iat"] + seconds
    assert checked(issuer.signed(told))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "other"},
        {"aud": [issuer.AUDIENCE + "x"]},
        {"aud": {"seed": 1}},
        {"aud": None},
        {"iss": issuer.ISSUER + "/"},
        {"iss": "https://evil.example.org"},
        {"iss": None},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"exp": None},
        {"exp": 1},
        {"exp": "9999999999"},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": True},
        {"iat": None},
        {"iat": 99999999999},
        {"nbf": 99999999999},
        {"typ": "Refresh"},
        {"typ": ["ID"]},
        {"events": {"backchannel-logout": {}}},
        {"cnf": {"jkt": "x"}},
    ],
    ids=lambda told: ",".join(told)[:30],
)
def test_these_claims_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        checked(issuer.signed(issuer.claims(**changes)))


@pytest.mark.parametrize("typ", ["logout+jwt", "dpop+jwt", "secevent+jwt", ""])
def test_other_kinds_of_tokens_are_refused(typ: Any) -> None:
    with pytest.raises(Unauthenticated):
        checked(issuer.signed(issuer.claims(), typ=typ))


def test_access_tokens_are_for_the_audience_and_not_for_the_client() -> None:
    token = issuer.signed(issuer.claims(aud="https://seed"), typ="at+jwt")
    assert checked(token, audience="https://seed")
    with pytest.raises(Unauthenticated, match="'aud'"):
        checked(issuer.signed(issuer.claims()), audience="https://seed")


def forged() -> dict[str, str]:
    good = issuer.signed(issuer.claims())
    header, payload, signature = good.split(".")
    other = issuer.written({}, issuer.claims(sub="root")).split(".")[1]
    jwk = issuer.FORGER.as_dict(private=False)
    return {
        "none": issuer.unsigned(issuer.claims()),
        "None": issuer.written({"alg": "None"}, issuer.claims(), b""),
        "hs256 with the public key": issuer.public_as_secret(issuer.claims(), issuer.KEYS["RS256"]),
        "another key of the same kid": issuer.signed(issuer.claims(), key=issuer.FORGER),
        "its own key in the header": issuer.signed(issuer.claims(), key=issuer.FORGER, jwk=jwk),
        "a key elsewhere": issuer.signed(
            issuer.claims(), key=issuer.FORGER, jku="https://evil.example.org/keys"
        ),
        "another key's kid": issuer.signed(issuer.claims(), "ES256", kid="rsa"),
        "an algorithm off our list": issuer.signed(issuer.claims(), "RS512", issuer.KEYS["RS256"]),
        "another payload": f"{header}.{other}.{signature}",
        "no signature": f"{header}.{payload}.",
        "a cut signature": good[:-4],
        "crit": issuer.written({"alg": "RS256", "crit": ["x"], "x": 1, "kid": "rsa"}, {}),
        "kid is a list": issuer.written({"alg": "RS256", "kid": ["rsa"]}, {}),
        "kid is another": issuer.signed(issuer.claims(), kid="new"),
        "no kid": issuer.written({"alg": "RS256"}, issuer.claims()),
        "deep": issuer.written(b"[" * 5000, b"{" * 5000),
        "deep payload": issuer.written({"alg": "RS256", "kid": "rsa"}, b"[" * 9000),
        "deep in UTF-16": issuer.written(("[" * 3000).encode("utf-16"), {}),
        "long": "a" * 9000 + "." + "a" * 9000 + ".a",
        "empty": "..",
        "not ASCII": "ä.ö.ü",
    }


@pytest.mark.parametrize("name", forged())
def test_a_forged_token_is_refused(name: str) -> None:
    with pytest.raises(Unauthenticated):
        checked(forged()[name])


def test_a_payload_too_deep_to_parse_is_refused_though_it_is_signed() -> None:
    head = {"alg": "RS256", "kid": "rsa"}
    for payload in (b"[" * 9000, "[]".encode("utf-16"), b"[1]", b"7", b"\xff"):
        with pytest.raises(Unauthenticated):
            checked(jws.serialize_compact(head, payload, issuer.KEYS["RS256"]))


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.sampled_from(["none", "HS256", *oidc.ALGORITHMS]) | ANY_JSON,
        "kid": st.sampled_from(["rsa", "ec", "ed"]) | ANY_JSON,
        "typ": ANY_JSON,
        "crit": ANY_JSON,
        "b64": ANY_JSON,
        "jwk": ANY_JSON,
        "x5c": ANY_JSON,
    },
)


@given(
    st.text()
    | st.tuples(st.text(), st.text(), st.text()).map(".".join)
    | st.builds(issuer.written, HEADERS | ANY_JSON | st.binary(), ANY_JSON | st.binary())
)
def test_garbage_is_never_anything_but_unauthenticated(token: str) -> None:
    with pytest.raises(Unauthenticated):
        checked(token)


@given(
    st.dictionaries(
        st.sampled_from(["iss", "aud", "sub", "exp", "iat", "nbf", "typ", "groups", "jti"]),
        ANY_JSON,
        min_size=1,
    )
)
def test_odd_claims_of_the_provider_itself_are_refused_or_harmless(odd: dict[str, Any]) -> None:
    told = Oidc(settings())
    try:
        claims = told.verified(issuer.signed(issuer.claims() | odd), issuer.key_set())
    except Unauthenticated:
        return
    assert claims["aud"] in (issuer.AUDIENCE, [issuer.AUDIENCE])
    assert set(told.granted(claims)) <= set(told.settings.grants)


# Keys


def test_only_public_signature_keys_of_a_good_size_are_used() -> None:
    good = issuer.public()
    weak = {"kty": "RSA", "kid": "weak", "e": "AQAB", "n": "A" * 171}
    bad: list[Any] = [
        weak,
        weak | {"n": "A" * 5000},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "s"},
        {"kty": "EC", "crv": "P-256", "x": "!", "y": "?"},
        {"kty": "PQ"},
        {},
        7,
        None,
        good[0] | {"use": "enc"},
        dict(issuer.KEYS["ES256"].as_dict(private=True)),
    ]
    assert [key.kid for key in usable([*bad, *good])] == [key["kid"] for key in good]
    assert usable("keys") == usable(None) == []


@dataclass
class Provider:
    """Keys and a clock; counts how often it was asked."""

    kids: list[str] = field(default_factory=lambda: ["rsa"])
    up: bool = True
    asked: int = 0
    time: float = 1000.0

    async def fetch(self) -> KeySet:
        self.asked += 1
        await asyncio.sleep(0)
        if not self.up:
            raise IdentityUnavailable("it does not answer")
        return KeySet([key for key in issuer.KEYS.values() if key.kid in self.kids])

    def keys(self) -> Keys:
        return Keys(self.fetch, lambda: self.time)


def test_many_at_once_make_one_fetch() -> None:
    provider = Provider()
    keys = provider.keys()

    async def ask() -> None:
        found = await asyncio.gather(*(keys.having("rsa") for _ in range(50)))
        assert {key.kid for key in found[0]} == {"rsa"}

    asyncio.run(ask())
    assert provider.asked == 1


def test_an_unknown_kid_is_looked_for_once_in_thirty_seconds() -> None:
    provider = Provider()
    keys = provider.keys()

    async def ask() -> None:
        await keys.having("rsa")
        for second in range(60):
            provider.time = 1000.0 + second
            await keys.having(f"forged-{second}")
        assert provider.asked == 2
        provider.kids, provider.time = ["ec"], 1061.0
        assert [key.kid for key in await keys.having("ec")] == ["ec"]

    asyncio.run(ask())


def test_while_the_provider_is_down_known_keys_serve_for_six_hours() -> None:
    provider = Provider()
    keys = provider.keys()

    async def ask() -> None:
        await keys.having("rsa")
        provider.up = False
        provider.time += oidc.FRESH_SECONDS + 1
        assert await keys.having("rsa")
        with pytest.raises(IdentityUnavailable):
            await keys.having("new")
        provider.time = 1000.0 + oidc.KEEP_SECONDS - 1
        assert await keys.having("rsa")
        provider.time += 2
        with pytest.raises(IdentityUnavailable):
            await keys.having("rsa")
        provider.up = True
        provider.time += oidc.RETRY_SECONDS
        assert await keys.having("rsa")

    asyncio.run(ask())


def test_without_keys_a_provider_that_is_down_is_asked_once_in_five_seconds() -> None:
    provider = Provider(up=False)
    keys = provider.keys()

    async def ask() -> None:
        for _ in range(20):
            with pytest.raises(IdentityUnavailable):
                await keys.having("rsa")
            provider.time += 1

    asyncio.run(ask())
    assert provider.asked == 4


# Who they are here


def test_names_are_harmless_and_never_the_same_for_two() -> None:
    assert harmless("alice@example.org") == "alice@example.org"
    assert harmless("a\n[b]/c d") == "a%0A%5Bb%5D%2Fc%20d"
    assert harmless("a%0A") == "a%250A"
    long = {harmless("x" * 100), harmless("x" * 101)}
    assert len(long) == 2
    assert all(len(name) == 64 for name in long)


@given(st.text(), st.text())
def test_two_texts_never_become_one_name(one: str, other: str) -> None:
    names = harmless(one), harmless(other)
    assert (names[0] == names[1]) == (one == other)
    assert all(name.isascii() and name.isprintable() and " " not in name for name in names)
    assert all(len(name) <= 64 for name in names)


def test_groups_give_roles_and_one_project(store: Store) -> None:
    caller = caller_of(store, "oidc:a", [OPERATOR, WEB], "")
    assert caller.roles == {Role.OPERATOR, Role.VIEWER, Role.CLAIMER}
    assert (caller.name, caller.project, caller.root) == ("oidc:a", "web", False)
    assert caller_of(store, "a", [OPERATOR], "").project == "default"


def test_of_several_projects_one_must_be_named(store: Store) -> None:
    with pytest.raises(Forbidden, match="several projects: db, web") as refused:
        caller_of(store, "a", [WEB, DB], "")
    assert "X-Seed-Project" in refused.value.remedy
    caller = caller_of(store, "a", [WEB, DB], "web")
    assert (caller.project, caller.roles) == ("web", {Role.CLAIMER})


@pytest.mark.parametrize("project", ["old", "gone"])
def test_a_disabled_or_unknown_project_is_worth_nothing(store: Store, project: str) -> None:
    grant = Grant(roles=(Role.CLAIMER, Role.VIEWER), project=project)
    with pytest.raises(Forbidden, match="disabled or no project"):
        caller_of(store, "a", [grant], "")
    assert caller_of(store, "a", [grant, OPERATOR], "").roles == set(OPERATOR.roles)
    assert caller_of(store, "a", [grant, WEB], "").project == "web"


@pytest.mark.parametrize("wanted", ["db", "nonsense", "old", "\n"])
def test_nobody_gets_a_project_by_asking_for_it(store: Store, wanted: str) -> None:
    with pytest.raises(Forbidden):
        caller_of(store, "a", [WEB, OPERATOR], wanted)


def test_nothing_granted_is_nobody(store: Store) -> None:
    with pytest.raises(Forbidden, match="has no role here"):
        caller_of(store, "a", [], "")
    with pytest.raises(Forbidden):  # without a project there is nothing to claim for
        caller_of(store, "a", [Grant(roles=(Role.CLAIMER,))], "")


@pytest.mark.parametrize(
    ("claims", "name", "wanted"),
    [
        ({"groups": ["web-team", "x"]}, "groups", [WEB]),
        ({"groups": "web-team"}, "groups", [WEB]),
        ({"groups": ["Web-Team", 7, None, ["web-team"]]}, "groups", []),
        ({"groups": {"web-team": 1}}, "groups", []),
        ({}, "groups", []),
        ({"realm_access": {"roles": ["dc-ops"]}}, "realm_access.roles", [OPERATOR]),
        ({"realm_access": ["dc-ops"]}, "realm_access.roles", []),
        ({"https://example.org/groups": ["dc-ops"]}, "https://example.org/groups", [OPERATOR]),
    ],
)
def test_groups_are_read_where_the_settings_say(
    claims: dict[str, Any], name: str, wanted: list[GroupGrant]
) -> None:
    assert Oidc(settings(groups_claim=name)).granted(claims) == wanted


def test_a_claim_may_name_the_project() -> None:
    open_grant = GroupGrant(group="staff", roles=(Role.CLAIMER,))
    told = Oidc(settings(project_claim="team", grants=(open_grant, WEB)))
    groups = {"groups": ["staff", "web-team"]}
    assert told.granted(groups | {"team": "db"}) == [
        Grant(roles=(Role.CLAIMER,), project="db"),
        WEB,
    ]
    assert told.granted(groups | {"team": ["db", "web"]}) == [open_grant, WEB]


def test_keystone_grants_go_by_id_or_domain_and_name() -> None:
    by_id = ProjectGrant(keystone_project="p1", keystone_role="member", roles=(Role.VIEWER,))
    by_name = ProjectGrant(keystone_project="Dom/web", keystone_role="admin", roles=(Role.VIEWER,))
    keystone = Keystone(KeystoneSettings(url="https://k/v3", grants=(by_id, by_name)))

    def granted(project: dict[str, Any] | None, *roles: str) -> list[Grant]:
        said = {"user": {"name": "u"}, "project": project, "expires_at": "2030-01-01T00:00:00Z"}
        named = [{"name": role} for role in roles]
        return keystone.granted("u", Token.model_validate(said | {"roles": named}))

    web = {"id": "p1", "name": "web", "domain": {"name": "Dom"}}
    assert granted(web, "member", "admin") == [by_id, by_name]
    assert granted(web, "reader") == []
    assert granted(web | {"id": "p2", "domain": {"name": "Other"}}, "member", "admin") == []
    with pytest.raises(Forbidden, match="not scoped"):
        granted(None, "admin")


@pytest.mark.parametrize("secret", ["", "short", "a" * 5000, "with space", "new\nline", "ä" * 20])
def test_what_is_no_keystone_token_is_not_even_asked_about(secret: str) -> None:
    keystone = Keystone(KeystoneSettings(url="https://127.0.0.1:9/v3"))
    with pytest.raises(Unauthenticated):
        asyncio.run(keystone.identify(secret))


def test_only_their_own_tokens_are_theirs(store: Store) -> None:
    """All else is left to Seed's own tokens, also where nothing is configured."""
    both = Federation(Oidc(settings()), Keystone(KeystoneSettings(url="https://127.0.0.1:9/v3")))
    for told, headers in [
        (both, {}),
        (both, {b"authorization": b"Bearer token-of-ours"}),
        (both, {b"authorization": b"Basic YTpi", b"x-auth-token": b"x" * 40}),
        (Federation(), {b"authorization": b"Bearer a.b.c"}),
        (Federation(), {b"x-auth-token": b"x" * 40}),
    ]:
        assert asyncio.run(told.caller(headers, store)) is None


# Settings


def test_the_settings_are_written_and_read_back(tmp_path: Path) -> None:
    grants = ({"group": 'a "b"', "roles": ["claimer", "viewer"], "project": "web"},)
    told = some_settings(
        tmp_path,
        oidc={"issuer": issuer.ISSUER, "client_id": "seed", "grants": grants},
        keystone={"url": "https://k:5000/v3"},
    )
    found = tomllib.loads(to_toml(told))
    assert found["oidc"]["grants"] == list(grants)
    assert Settings.model_validate(found).oidc == told.oidc


@pytest.mark.parametrize(
    "told",
    [
        {"issuer": "http://id.example.org", "client_id": "seed"},
        {"issuer": "https://user@id.example.org", "client_id": "seed"},
        {"issuer": issuer.ISSUER},
        {"grants": [{"group": "a", "roles": ["king"]}]},
        {"grants": [{"group": "a", "roles": []}]},
        {"grants": [{"group": "", "roles": ["viewer"]}]},
        {"grants": [{"group": "a", "roles": ["claimer"]}]},
        {"secret": "x"},
    ],
    ids=lambda told: ",".join(told)[:30],
)
def test_settings_that_cannot_be_meant_are_refused(told: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OidcSettings.model_validate(told)


def test_keystone_credentials_are_one_of_two_kinds(tmp_path: Path) -> None:
    file = tmp_path / "keystone.toml"
    file.write_text('username = "seed"\npassword = "the-secret"\n')
    asked = json.dumps(credentials(file).request())
    assert '"the-secret"' in asked
    assert "the-secret" not in repr(credentials(file))
    for wrong in ('username = "seed"\nsecret = "the-secret"', "the-secret", ""):
        file.write_text(wrong)
        with pytest.raises(IdentityUnavailable) as refused:
            credentials(file)
        assert "the-secret" not in str(refused.value) + str(refused.value.__cause__)
    with pytest.raises(IdentityUnavailable, match="cannot be read"):
        credentials(tmp_path / "none")
    made = Credentials(application_credential_id="i", application_credential_secret="s")
    assert made.request()["auth"]["identity"]["methods"] == ["application_credential"]


# On this machine


def test_the_keystone_login_is_the_apis_alone(tmp_path: Path) -> None:
    file = tmp_path / "keystone.toml"
    told = some_settings(tmp_path, keystone={"url": "https://k/v3", "credentials_file": file})
    (place,) = [place for place in users.files(told) if place.path == file]
    assert (place.owner, place.group, place.mode) == ("seed-api", "seed-api", 0o600)
    assert not any(p.path.name == "keystone.toml" for p in users.files(some_settings(tmp_path)))


def test_doctor_asks_only_providers_that_are_configured(tmp_path: Path) -> None:
    assert list(sign_on.findings(some_settings(tmp_path))) == []


def test_doctor_says_what_is_wrong_with_a_provider(tmp_path: Path) -> None:
    file = tmp_path / "keystone.toml"
    file.write_text('username = "seed"\npassword = "the-secret"\n')
    nobody = "https://127.0.0.1:9"
    told = some_settings(
        tmp_path,
        namespace="",
        oidc={"issuer": nobody, "client_id": "seed"},
        keystone={"url": f"{nobody}/v3", "credentials_file": file},
    )
    found = list(sign_on.findings(told))
    assert [finding.ok for finding in found] == [False] * 4
    said = [finding.sentence for finding in found]
    assert said[0].startswith(f"the OIDC provider at {nobody} does not answer (")
    assert said[1] == f"nobody of {nobody} may do anything: no group or project is granted a role"
    assert said[2].startswith(f"Keystone at {nobody}/v3 does not answer (")
    assert all(finding.remedy for finding in found)
    missing = told.model_copy(update={"oidc": settings(ca_file=str(tmp_path / "no.pem"))})
    first = next(iter(sign_on.findings(missing)))
    assert (first.ok, "no.pem" in first.sentence) == (False, True)


def test_a_silent_provider_costs_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections and never says a word: what was opened to it is closed again."""
    lost: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: lost.append(told.exc_value))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = Peer("the OIDC provider", f"https://127.0.0.1:{silent.getsockname()[1]}", seconds=1)

        async def ask() -> None:
            with pytest.raises(IdentityUnavailable, match="does not answer"):
                await peer.call("GET", peer.url)

        asyncio.run(ask())
    gc.collect()
    assert lost == []
