"""seed login-oidc: a token from the provider that the API trusts, fetched by a person.

By a code that is typed elsewhere (RFC 8628) where the provider can do that, else by a browser on
this machine (RFC 8252, with PKCE: RFC 7636). Whom to ask is told by the API.
"""

import json
import os
import secrets
import ssl
import tempfile
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer

from seed.calls import _problem, _trust
from seed.commands.door import REFUSED, TOO_LONG, UNAVAILABLE, USAGE, err, fail
from seed.commands.token import HOME
from seed.loopback import Loopback

CALL_SECONDS: Final = 20.0
DEVICE: Final = "urn:ietf:params:oauth:grant-type:device_code"
_NOT_HERE: Final = (
    "Log in as its administrator says, or with a token: `seed token create NAME --role viewer`."
)


def login(
    seconds: Annotated[int, typer.Option(min=10, max=1800, help="How long to wait.")] = 300,
    again: Annotated[
        bool, typer.Option("--again", help="Ask you, also where the last login can be renewed.")
    ] = False,
) -> None:
    """Log in with single sign-on; the token goes to a file only you can read."""
    server = os.environ.get("SEED_SERVER", "").rstrip("/")
    if not server:
        fail(
            "single sign-on is for Seed elsewhere: on its own machine you are known already",
            "export SEED_SERVER=https://SEED:8443, and SEED_CA with the file of its CA",
            USAGE,
        )
    file = Path(os.environ.get("SEED_TOKEN_FILE") or HOME / "token")
    login_oidc(server, file, seconds, again)


def login_oidc(server: str, file: Path, seconds: int, again: bool = False) -> None:
    """Fetch a token and keep it in `file`, 0600. Ends the program where that cannot be."""
    told = methods(server).get("oidc")
    if not told:
        fail(f"Seed at {server} has no single sign-on with OIDC", _NOT_HERE)
    _https("issuer", told["issuer"])
    kept = _kept(file)
    with _reachable(told["issuer"]), _session(told) as session:
        about = _about(session, told["issuer"])
        tokens = None if again else _renewed(session, about, told, kept)
        if tokens is None:
            how = _by_code if "device_authorization_endpoint" in about else _by_browser
            tokens = how(session, about, told, time.monotonic() + seconds)
    _keep(file, told, tokens, kept)
    _say(server, file, str(tokens[told["token"]]))


def methods(server: str) -> dict[str, Any]:
    """What `GET /v1/login-methods` says."""
    import httpx

    try:
        answer = httpx.get(
            f"{server}/v1/login-methods",
            verify=_seeds_ca(),
            timeout=CALL_SECONDS,
        )
        found = answer.json() if answer.is_success else {}
    except (httpx.HTTPError, OSError, ValueError):
        fail(f"Seed does not answer at {server}", "Is it up, and is SEED_CA its CA?", UNAVAILABLE)
    return found if isinstance(found, dict) else {}


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
        fail(f"the provider at {issuer} refused: {why}", "seed login-oidc --again", REFUSED)
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
    kept: dict[str, str],
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
        fail(f"the provider refused: {asked.get('error', 'no code')}", _NOT_HERE)
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
    fail("nobody confirmed the code in time", "seed login-oidc", TOO_LONG)


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
        fail("nobody logged in in time", "seed login-oidc", TOO_LONG)
    if "error" in came or came.get("iss", told["issuer"]) != told["issuer"]:  # RFC 9207
        fail(f"the provider refused: {came.get('error', 'another issuer')}", "seed login-oidc")
    found: dict[str, Any] = session.fetch_token(
        about["token_endpoint"],
        grant_type="authorization_code",
        code=came.get("code", ""),
        code_verifier=verifier,
    )
    if payload(str(found.get("id_token", ""))).get("nonce", nonce) != nonce:
        fail("the provider answered somebody else's login", "seed login-oidc")
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


def _renewal(file: Path) -> Path:
    """What the next login is renewed with, beside the token."""
    return file.with_name(file.name + ".refresh")


def _kept(file: Path) -> dict[str, str]:
    try:
        found = json.loads(_renewal(file).read_text())
        return {str(k): str(v) for k, v in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _keep(file: Path, told: dict[str, Any], tokens: dict[str, Any], kept: dict[str, str]) -> None:
    from ipxe.render import write_atomic

    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(file, f"{tokens[told['token']]}\n", 0o600)
    last = kept.get("refresh_token") if kept.get("issuer") == told["issuer"] else None
    renewal = tokens.get("refresh_token") or last
    if renewal:
        whose = {"issuer": told["issuer"], "client_id": told["client_id"]}
        write_atomic(_renewal(file), json.dumps({**whose, "refresh_token": renewal}), 0o600)


def _say(server: str, file: Path, token: str) -> None:
    """Whose token it is and until when; and what Seed thinks of it, asked once."""
    import httpx

    told = payload(token)
    name = told.get("preferred_username") or told.get("sub") or "somebody"
    left = int(told["exp"] - time.time()) // 60 if isinstance(told.get("exp"), int) else None
    until = f", for {left} minutes" if left is not None else ""
    typer.echo(f"logged in as {name}{until}; the token is in {file}")
    try:
        answer = httpx.get(
            f"{server}/v1/images",
            headers={"Authorization": f"Bearer {token}"},
            verify=_seeds_ca(),
            timeout=CALL_SECONDS,
        )
    except (httpx.HTTPError, OSError):
        return
    if not answer.is_success:
        problem = _problem(answer)
        fail(
            f"but Seed says: {problem.get('detail') or problem.get('title')}",
            str(problem.get("remedy", "")),
        )


def _seeds_ca() -> ssl.SSLContext:
    return _trust(os.environ.get("SEED_CA") or None)
