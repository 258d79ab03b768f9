"""Does single sign-on answer? For `seed doctor`, asked from where the API asks."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from api.keystone import Keystone
from api.oidc import Oidc
from provisioning.errors import SeedError
from seed.host import netns
from seed.host.checks import Finding
from seed.settings import Settings

CHECK = "sign-on"


def findings(settings: Settings) -> Iterator[Finding]:
    """One per provider that is configured; none where there is none. Each ends within 30 s."""
    oidc, keystone = settings.oidc, settings.keystone
    if oidc.issuer:
        yield from _asked(settings, oidc.ca_file, oidc.issuer, Oidc(oidc).fetch_keys)
        yield from _grants(oidc.issuer, bool(oidc.grants))
    if keystone.url:
        yield from _asked(settings, keystone.ca_file, keystone.url, Keystone(keystone).own_token)
        yield from _grants(keystone.url, bool(keystone.grants))


def _asked(
    settings: Settings, ca_file: str, url: str, ask: Callable[[], Awaitable[object]]
) -> Iterator[Finding]:
    if ca_file and not Path(ca_file).is_file():
        yield Finding(CHECK, False, f"{ca_file}, the CA of {url}, is not there", f"ls -l {ca_file}")
        return
    try:
        netns.call(settings.namespace, lambda: asyncio.run(_ended(ask)))
    except SeedError as error:
        cause = error.__cause__
        why = f" ({cause})" if cause is not None and str(cause) else ""
        yield Finding(CHECK, False, f"{error}{why}", _remedy(url, ca_file, error))
    else:
        yield Finding(CHECK, True, f"{url} answers, and its people can log in")


async def _ended(ask: Callable[[], Awaitable[object]]) -> None:
    await ask()


def _remedy(url: str, ca_file: str, error: SeedError) -> str:
    if "`seed doctor`" not in error.remedy:
        return error.remedy
    trust = f"--cacert {ca_file} " if ca_file else ""
    return f"curl {trust}{url}"


def _grants(url: str, some: bool) -> Iterator[Finding]:
    if not some:
        yield Finding(
            CHECK,
            False,
            f"nobody of {url} may do anything: no group or project is granted a role",
            "add grants to seed.toml as docs/single-sign-on.md says, then: seed down, seed up",
        )
