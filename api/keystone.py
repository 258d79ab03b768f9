"""Tokens of OpenStack's Keystone: it is asked about each, with a token of Seed's own.

Identity API v3, "Validate and show information for token". An answer is kept for a minute at most,
by the token's SHA-256.
"""

import asyncio
import re
import time
import tomllib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, model_validator

from api.grants import Grant, KeystoneSettings
from api.provider import IdentityUnavailable, Peer, harmless
from provisioning.errors import Forbidden, Unauthenticated
from provisioning.secrets import digest

TOKEN: Final = re.compile(r"[\x21-\x7e]{8,4096}")
KEPT: Final = 2000  # answers at once; the oldest goes first
AT_ONCE: Final = 8  # calls
ASK_SECONDS: Final = 30.0  # to be told of one token, waiting for others' calls included
REFUSED_SECONDS: Final = 30.0  # our login is not tried again so soon: Keystone may lock our user
_EARLY_SECONDS: Final = 60.0  # our own token is renewed before it ends
_REMEDY: Final = "openstack token issue"


class Credentials(BaseModel):
    """Of Seed's user: name and password, or an application credential."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    username: str = ""
    password: SecretStr = SecretStr("")
    user_domain: str = "Default"
    project: str = "service"
    project_domain: str = "Default"
    application_credential_id: str = ""
    application_credential_secret: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _one_of_both(self) -> "Credentials":
        if bool(self.username) == bool(self.application_credential_id):
            raise ValueError("give either a username or an application credential")
        return self

    def request(self) -> dict[str, Any]:
        """As `POST /v3/auth/tokens` takes it."""
        if self.application_credential_id:
            secret = self.application_credential_secret.get_secret_value()
            shown = {"id": self.application_credential_id, "secret": secret}
            identity = {"methods": ["application_credential"], "application_credential": shown}
            return {"auth": {"identity": identity}}
        user = {
            "name": self.username,
            "domain": {"name": self.user_domain},
            "password": self.password.get_secret_value(),
        }
        project = {"name": self.project, "domain": {"name": self.project_domain}}
        identity = {"methods": ["password"], "password": {"user": user}}
        return {"auth": {"identity": identity, "scope": {"project": project}}}


class _Named(BaseModel):
    id: str = ""
    name: str = ""


class _Owned(_Named):
    domain: _Named = _Named()


class Token(BaseModel):
    """What Keystone says of one. project: None: it is not scoped to a project."""

    user: _Owned
    project: _Owned | None = None
    roles: tuple[_Named, ...] = ()
    expires_at: datetime
    oauth2_credential: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Kept:
    until: float
    token: Token


class Keystone:
    """One Keystone. Raises Unauthenticated for a token it does not know."""

    def __init__(self, settings: KeystoneSettings, clock: Callable[[], float] = time.time) -> None:
        """clock: seconds since the epoch."""
        self.settings, self._clock = settings, clock
        self.peer = Peer("Keystone", settings.url, settings.ca_file)
        self._tokens = settings.url.rstrip("/") + "/auth/tokens"
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._own, self._own_until, self._refused_until = "", 0.0, 0.0
        self._asking: dict[str, asyncio.Task[Token]] = {}
        self._own_lock, self._calls = asyncio.Lock(), asyncio.Semaphore(AT_ONCE)

    async def identify(self, secret: str) -> tuple[str, list[Grant]]:
        """(name, what they are granted); the name starts with "keystone:"."""
        if not TOKEN.fullmatch(secret):
            raise Unauthenticated("this is no Keystone token", _REMEDY)
        token = self._known(digest(secret)) or await self._ask(secret)
        name = f"{harmless(token.user.name, '')}@{harmless(token.user.domain.name, '')}"
        return f"keystone:{name}", self.granted(f"keystone:{name}", token)

    def granted(self, name: str, token: Token) -> list[Grant]:
        """What its roles in its project are worth here. Forbidden: it is for no project."""
        project = token.project
        if project is None:
            raise Forbidden(
                f"the Keystone token of {name} is not scoped to a project",
                "Set OS_PROJECT_NAME and OS_PROJECT_DOMAIN_NAME, or project_name in clouds.yaml.",
            )
        names = {project.id, f"{project.domain.name}/{project.name}"}
        roles = {role.name for role in token.roles}
        return [
            grant
            for grant in self.settings.grants
            if grant.keystone_project in names and grant.keystone_role in roles
        ]

    def _known(self, key: str) -> Token | None:
        kept = self._kept.get(key)
        if kept is None or kept.until <= self._clock():
            self._kept.pop(key, None)
            return None
        return kept.token

    async def _ask(self, secret: str) -> Token:
        """One question about a token at a time, however many requests bring it."""
        key = digest(secret)
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._asked(secret, key))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(task)

    async def _asked(self, secret: str, key: str) -> Token:
        try:
            async with asyncio.timeout(ASK_SECONDS), self._calls:
                token = await self._validated(secret)
        except TimeoutError as error:
            raise self.peer.down("does not answer") from error
        ends = token.expires_at.timestamp()
        if ends <= self._clock():
            raise Unauthenticated("this Keystone token has expired", _REMEDY)
        if token.oauth2_credential is not None:  # RFC 8705: of no worth without its certificate
            raise Unauthenticated("this Keystone token is bound to a certificate", _REMEDY)
        if self.settings.cache_seconds:
            until = min(ends, self._clock() + self.settings.cache_seconds)
            self._kept[key] = _Kept(until, token)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return token

    async def _validated(self, secret: str) -> Token:
        for fresh in (False, True):
            own = await self.own_token(fresh)
            headers = {"X-Auth-Token": own, "X-Subject-Token": secret}
            answer = await self.peer.call("GET", f"{self._tokens}?nocatalog", headers)
            if answer.status != 401:  # 401 is about ours: revoked, or Keystone has other keys now
                break
        if answer.status == 404:
            raise Unauthenticated("Keystone does not know this token, or it has ended", _REMEDY)
        if answer.status != 200:
            raise IdentityUnavailable(
                f"Keystone at {self.settings.url} answered {answer.status} when Seed asked about a "
                "token",
                f"Its user in {self.settings.credentials_file} needs the role `service`: "
                "openstack role add --user seed --project service service",
            )
        try:
            return Token.model_validate(answer.body.get("token"))
        except ValidationError as error:
            raise self.peer.down("says something else of a token than API v3 does") from error

    async def own_token(self, fresh: bool = False) -> str:
        """Seed's own. Raises IdentityUnavailable when Keystone does not give it one."""
        before = self._own
        async with self._own_lock:
            ended = self._own_until <= self._clock()
            if ended or (fresh and self._own == before):  # else somebody has just got a new one
                self._own, self._own_until = await self._log_in()
            return self._own

    async def _log_in(self) -> tuple[str, float]:
        if self._refused_until > self._clock():
            raise self._refused()
        body = (await asyncio.to_thread(credentials, self.settings.credentials_file)).request()
        answer = await self.peer.call("POST", self._tokens, body=body)
        secret = answer.headers.get("x-subject-token", "")
        if answer.status != 201 or not TOKEN.fullmatch(secret):
            self._refused_until = self._clock() + REFUSED_SECONDS
            raise self._refused()
        try:
            ends = Token.model_validate(answer.body.get("token")).expires_at.timestamp()
        except ValidationError as error:
            raise self.peer.down("says something else of a token than API v3 does") from error
        return secret, ends - _EARLY_SECONDS

    def _refused(self) -> IdentityUnavailable:
        return IdentityUnavailable(
            f"Keystone at {self.settings.url} does not let Seed's own user in",
            f"Put its right password into {self.settings.credentials_file}, then `seed doctor`.",
        )


def credentials(path: Path) -> Credentials:
    """Read at each login, so that a new password needs no restart. Raises IdentityUnavailable."""
    try:
        return Credentials(**tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
    except (ValueError, TypeError):  # its text is not shown: there is a password in it
        why = "is not as docs/single-sign-on.md says"
    raise IdentityUnavailable(f"{path}, Seed's user at Keystone, {why}", "seed doctor") from None
