"""seed login --oidc: a token from the provider that the API trusts, fetched by a person.

By a code that is typed elsewhere (RFC 8628) where the provider can do that, else by a browser on
this machine (RFC 8252, with PKCE: RFC 7636). Whom to ask is told by the API.
"""

import json
import secrets
import tempfile
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import typer

from seed.commands.door import REFUSED, TOO_LONG, UNAVAILABLE, err, fail
from seed.loopback import Loopback

CALL_SECONDS: Final = 20.0
DEVICE: Final = "urn:ietf:params:oauth:grant-type:device_code"
AGAIN: Final = "seed login --oidc --again"


def fetch(
    told: dict[str, Any], seconds: int, kept: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """(a token, what the next one is renewed with). Ends the program where that cannot be.

    told: `oidc` of the login methods. kept: what the last login was renewed with; {}: ask.
    """
    _https("issuer", told["issuer"])
    with _reachable(told["issuer"]), _session(told) as session:
        about = _about(session, told["issuer"])
        tokens = _renewed(session, about, told, kept)
        if tokens is None:
            how = _by_code if "device_authorization_endpoint" in about else _by_browser
            tokens = how(session, about, told, time.monotonic() + seconds)
    whose = {"issuer": told["issuer"], "client_id": told["client_id"]}
    last = kept.get("refresh_token") if kept.get("issuer") == told["issuer"] else None
    renewal = tokens.get("refresh_token") or last
    token = str(tokens[told["token"]])
    return token, {**whose, "refresh_token": renewal} if renewal else {}


@contextmanager
def _session(told: dict[str, Any]) -> Iterator[Any]:
    """Authlib's client of this provider; the CA that the API named holds for it alone."""
    from authlib.integrations.requests_client import OAuth2Session

    with tempfile.TemporaryDirectory() as folder:
        session = OAuth2Session(
            told["client_id"],
            scope=told["scopes"],
            code_challenge_method="S256",
            default_timeout=CALL_SECONDS,
        )
        if told.get("ca_pem"):
            ca = Path(folder) / "ca.pem"
            ca.write_text(told["ca_pem"])
            # Before requests looks at it: REQUESTS_CA_BUNDLE would win over session.verify.
            session.trust_env = False
            session.verify = str(ca)
        with session:
            yield session


@contextmanager
def _reachable(issuer: str) -> Iterator[None]:
    """What the provider refuses, or does not answer, as one sentence."""
    import requests
    from authlib.integrations.base_client import OAuthError

    try:
        yield
    except OAuthError as error:
        why = error.description or error.error
        fail(f"the provider at {issuer} refused: {why}", AGAIN, REFUSED)
    except (requests.RequestException, OSError, ValueError) as error:
        fail(
            f"the provider at {issuer} does not answer as it should: {type(error).__name__}",
            f"curl {issuer.rstrip('/')}/.well-known/openid-configuration",
            UNAVAILABLE,
        )


def _https(what: str, url: Any) -> str:  # noqa: ANN401
    if not isinstance(url, str) or urlsplit(url).scheme != "https":
        fail(f"the provider's {what} is no https address", "Tell who runs it.", UNAVAILABLE)
    return url


def _about(session: Any, issuer: str) -> dict[str, Any]:  # noqa: ANN401
    """Its discovery document, which must say that it is that issuer."""
    url = issuer.rstrip("/") + "/.well-known/openid-configuration"
    found: dict[str, Any] = session.get(url, withhold_token=True).json()
    if found["issuer"] != issuer:
        fail(f"{url} is of another issuer", "Tell who runs Seed: issuer in [oidc].", UNAVAILABLE)
    _https("token endpoint", found.get("token_endpoint"))
    return found


def _renewed(
    session: Any,  # noqa: ANN401
    about: dict[str, Any],
    told: dict[str, Any],
    kept: Mapping[str, str],
) -> dict[str, Any] | None:
    """By the refresh token of the last login; None: there is none, or it has ended."""
    from authlib.integrations.base_client import OAuthError

    if (kept.get("issuer"), kept.get("client_id")) != (told["issuer"], told["client_id"]):
        return None
    try:
        found: dict[str, Any] = session.refresh_token(
            about["token_endpoint"], refresh_token=kept["refresh_token"]
        )
    except OAuthError:
        return None
    return found if found.get(told["token"]) else None  # an ID token may not come again


def _by_code(
    session: Any,  # noqa: ANN401
    about: dict[str, Any],
    told: dict[str, Any],
    until: float,
) -> dict[str, Any]:
    """The person opens a page on any device; we ask every few seconds whether that is done."""
    from authlib.integrations.base_client import OAuthError

    url = _https("device endpoint", about["device_authorization_endpoint"])
    asked = session.post(
        url,
        data={"client_id": told["client_id"], "scope": told["scopes"], **_audience(told)},
        withhold_token=True,
    ).json()
    if "device_code" not in asked:
        fail(f"the provider refused: {asked.get('error', 'no code')}", AGAIN)
    where = asked.get("verification_uri_complete") or asked["verification_uri"]
    err.print(f"Open {where} and confirm the code {asked['user_code']}", soft_wrap=True)
    pause = max(float(asked.get("interval", 5)), 1.0)
    until = min(until, time.monotonic() + float(asked.get("expires_in", 1800)))
    with err.status("waiting for you"):
        while time.monotonic() + pause < until:
            time.sleep(pause)
            try:
                found: dict[str, Any] = session.fetch_token(
                    about["token_endpoint"], grant_type=DEVICE, device_code=asked["device_code"]
                )
            except OAuthError as error:
                if error.error not in ("authorization_pending", "slow_down"):
                    raise
                pause += 5.0 if error.error == "slow_down" else 0.0
            else:
                return _whole(found, told)
    fail("nobody confirmed the code in time", AGAIN, TOO_LONG)


def _by_browser(
    session: Any,  # noqa: ANN401
    about: dict[str, Any],
    told: dict[str, Any],
    until: float,
) -> dict[str, Any]:
    """The person's browser comes back to a port of ours on loopback, with a code for us alone."""
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    with Loopback(state) as loopback:
        session.redirect_uri = loopback.url
        url, _ = session.create_authorization_url(
            _https("authorization endpoint", about["authorization_endpoint"]),
            state=state,
            nonce=nonce,
            code_verifier=verifier,
            **_audience(told),
        )
        err.print("Open this address in a browser on this machine:")
        typer.echo(url)
        with err.status("waiting for you"):
            came = loopback.wait(until)
    if came is None:
        fail("nobody logged in in time", AGAIN, TOO_LONG)
    if "error" in came or came.get("iss", told["issuer"]) != told["issuer"]:  # RFC 9207
        fail(f"the provider refused: {came.get('error', 'another issuer')}", AGAIN)
    found: dict[str, Any] = session.fetch_token(
        about["token_endpoint"],
        grant_type="authorization_code",
        code=came.get("code", ""),
        code_verifier=verifier,
    )
    if payload(str(found.get("id_token", ""))).get("nonce", nonce) != nonce:
        fail("the provider answered somebody else's login", AGAIN)
    return _whole(found, told)


def _audience(told: dict[str, Any]) -> dict[str, str]:
    """Some providers want to be told for whom an access token is (Auth0, Okta)."""
    return {"audience": told["audience"]} if told["audience"] else {}


def _whole(found: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    if not found.get(told["token"]):
        name = told["token"].replace("_", " ")
        fail(f"the provider gave no {name}", "Tell who runs Seed: `scopes` in [oidc].")
    return found


def payload(token: str) -> dict[str, Any]:
    """What a JWT says, unchecked: for showing only. {}: it is none."""
    try:
        part = token.split(".")[1]
        found = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, IndexError):
        return {}
    return found if isinstance(found, dict) else {}
