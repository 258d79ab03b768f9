"""Seed's API, typed, for programs in Python; the CLI's verbs are written with it.

    from seed.client import Seed

    with Seed("https://172.22.9.1:8443", token=secret, ca="seed-ca.pem") as seed:
        seed.claims.create(name="web", image="debian", count=2, ssh_keys=[key])
        for node in seed.claims.wait("web").handout.nodes:
            print(node.name, node.address)

Without an address it talks to the socket of this machine's Seed. Every call has a timeout. What
fails raises a ClientError. Only what is safe to repeat is repeated: reads, PUT, what never reached
Seed or was told to come later, and a POST that makes something, under one Idempotency-Key.
"""

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import httpx

from seed.calls import (
    TOO_MANY,
    Calls,
    ClientError,
    Misconfigured,
    Refused,
    Stuck,
    TooLong,
    Unavailable,
    given,
    segment,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

    from api import node_list as of_node_list
    from api.routes import claims as of_claims
    from api.routes import events as of_events
    from api.routes import images as of_images
    from api.routes import nodes as of_nodes
    from api.routes import projects as of_projects
    from api.routes import tokens as of_tokens
    from api.routes import users as of_users
    from api.routes import webhooks as of_webhooks
    from provisioning import plans as of_plans
    from provisioning import renderings as of_renderings
else:  # they take two seconds to load, and most verbs only print

    class _Later:
        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:  # noqa: ANN401
            return getattr(import_module(self._name), attribute)

    of_claims, of_events, of_nodes, of_tokens = (
        _Later(f"api.routes.{noun}") for noun in ("claims", "events", "nodes", "tokens")
    )
    of_projects, of_users, of_webhooks = (
        _Later(f"api.routes.{noun}") for noun in ("projects", "users", "webhooks")
    )
    of_node_list = _Later("api.node_list")
    of_images = _Later("api.routes.images")
    of_plans, of_renderings = (_Later(f"provisioning.{noun}") for noun in ("plans", "renderings"))

__all__ = [
    "ClientError", "Misconfigured", "Refused", "Seed", "Stuck", "TooLong", "Unavailable", "segment",
]  # fmt: skip

Out = TypeVar("Out", bound="BaseModel")
Made = TypeVar("Made", bound="BaseModel")
LOOK_SECONDS: Final = 1.0
PATIENCE: Final = 300.0  # seconds that Seed may be gone while something is waited for
LONGEST_PAUSE: Final = 15.0  # seconds between two tries to go on with a stream


class Seed(Calls):
    """One Seed, by nouns. get, pages, post, create, put, delete: what no noun here has."""

    @property
    def claims(self) -> "Claims":
        return Claims(self)

    @property
    def nodes(self) -> "Nodes":
        return Nodes(self)

    @property
    def events(self) -> "Events":
        return Events(self)

    @property
    def images(self) -> "Images":
        return Images(self)

    @property
    def tokens(self) -> "Tokens":
        return Tokens(self)

    @property
    def inventory(self) -> "Inventory":
        return Inventory(self)

    @property
    def projects(self) -> "Kind[of_projects.ProjectOut, of_projects.ProjectOut]":
        return Kind(
            self, "/projects", lambda: of_projects.ProjectOut, lambda: of_projects.ProjectOut
        )

    @property
    def users(self) -> "Kind[of_users.UserOut, of_users.UserOut]":
        return Kind(self, "/users", lambda: of_users.UserOut, lambda: of_users.UserOut)

    @property
    def webhooks(self) -> "Kind[of_webhooks.WebhookOut, of_webhooks.WebhookMade]":
        return Kind(
            self, "/webhooks", lambda: of_webhooks.WebhookOut, lambda: of_webhooks.WebhookMade
        )


class Noun:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls


class Claims(Noun):
    """Servers with an image on them. A claim is named by its name or its id."""

    def explain(self, **wishes: Any) -> "of_claims.ExplainOut":
        """What would become of such a claim: per node the rules that keep it away."""
        told = self._calls.post("/claims:explain", _wishes(wishes))
        return of_claims.ExplainOut.model_validate(told)

    def create(self, **wishes: Any) -> "of_claims.ClaimOut":
        """wishes: ClaimSpec's fields. Raises Refused with `reasons` when it cannot be had."""
        return _claim(self._calls.create("/claims", _wishes(wishes)))

    def put(self, **wishes: Any) -> "of_claims.ClaimOut":
        """The same, and the same wish under the same name is the same claim."""
        return _claim(self._calls.put(f"/claims/{segment(wishes['name'])}", _wishes(wishes)))

    def show(self, name: str) -> "of_claims.ClaimOut":
        return _claim(self._calls.get(f"/claims/{segment(name)}"))

    def list(self, **filters: Any) -> Iterator["of_claims.ClaimOut"]:
        return map(_claim, self._calls.pages("/claims", **filters))

    def wait(
        self,
        name: str,
        state: str = "active",
        timeout: float = 7200.0,
        on_look: Callable[["of_claims.ClaimOut"], None] = lambda _: None,
    ) -> "of_claims.ClaimOut":
        """Until it is in this state. Raises Stuck, TooLong; Seed may be restarted meanwhile."""
        deadline = time.monotonic() + timeout
        for claim in self._looks(name, deadline):
            on_look(claim)
            if claim.state == state:
                return claim
            if claim.problem:
                raise Stuck(claim.problem, claim.remedy)
            if claim.ended_at:
                raise Stuck(f"claim {claim.name} was {claim.state}", "`seed claim list --ended`")
            if time.monotonic() > deadline:
                raise TooLong(
                    f"claim {claim.name} is still {claim.state} after {timeout:.0f} s",
                    f"`seed claim show {claim.name}`",
                )
        raise AssertionError("looks end by raising")

    def _looks(self, name: str, deadline: float) -> Iterator["of_claims.ClaimOut"]:
        seen = time.monotonic()
        while True:
            try:
                yield self.show(name)
                seen = time.monotonic()
            except Unavailable:
                if time.monotonic() > min(deadline, seen + PATIENCE):
                    raise
            time.sleep(LOOK_SECONDS)

    def renew(
        self, name: str, ends_at: datetime | None = None, lease_seconds: int | None = None
    ) -> "of_claims.ClaimOut":
        """Another end, or so long from now. ends_at has a time zone."""
        until = ends_at.isoformat() if ends_at else None
        return self._act(name, "renew", given({"ends_at": until, "lease_seconds": lease_seconds}))

    def protect(self, name: str, why: str = "") -> "of_claims.ClaimOut":
        return self._act(name, "protect", {"why": why})

    def unprotect(self, name: str, why: str = "") -> "of_claims.ClaimOut":
        return self._act(name, "unprotect", {"why": why})

    def prioritize(self, name: str, priority: int) -> "of_claims.ClaimOut":
        return self._act(name, "prioritize", {"priority": priority})

    def plan_release(self, name: str) -> "of_plans.PlanOut":
        """What a release would erase: `release` wants its hash."""
        told = self._calls.post(f"/claims/{segment(name)}:plan-release")
        return of_plans.PlanOut.model_validate(told)

    def release(
        self, name: str, plan: str, now: bool = False, why: str = ""
    ) -> "of_claims.ClaimOut":
        """Off at once, erased when the undo window is over; now: there is none."""
        return self._act(name, "release", {"plan": plan, "now": now, "why": why})

    def undo(self, name: str) -> "of_claims.ClaimOut":
        """Take a release back while the disks are untouched."""
        return self._act(name, "undo", {})

    def known_hosts(self, name: str) -> str:
        return self._calls.text(f"/claims/{segment(name)}/known_hosts")

    def ssh_config(self, name: str) -> str:
        return self._calls.text(f"/claims/{segment(name)}/ssh_config")

    def inventory(self, name: str) -> dict[str, Any]:
        return dict(self._calls.get(f"/claims/{segment(name)}/inventory"))

    def _act(self, name: str, verb: str, body: dict[str, Any]) -> "of_claims.ClaimOut":
        return _claim(self._calls.post(f"/claims/{segment(name)}:{verb}", body))


def _claim(told: Any) -> "of_claims.ClaimOut":  # noqa: ANN401
    return of_claims.ClaimOut.model_validate(told)


def _wishes(wishes: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in wishes.items()
        if value is not None
    }


class Nodes(Noun):
    def list(self, **filters: Any) -> Iterator["of_node_list.NodeOut"]:
        return map(of_node_list.NodeOut.model_validate, self._calls.pages("/nodes", **filters))

    def show(self, name: str) -> "of_nodes.NodeFull":
        return of_nodes.NodeFull.model_validate(self._calls.get(f"/nodes/{segment(name)}"))


class Images(Noun):
    def list(self) -> Iterator["of_images.ImageOut"]:
        """What each name means now."""
        return map(of_images.ImageOut.model_validate, self._calls.pages("/images"))

    def versions(self, name: str) -> Iterator["of_images.ImageOut"]:
        told = self._calls.pages(f"/images/{segment(name)}/versions")
        return map(of_images.ImageOut.model_validate, told)

    def show(self, name: str) -> "of_images.ImageOut":
        return of_images.ImageOut.model_validate(self._calls.get(f"/images/{segment(name)}"))


class Tokens(Noun):
    def list(self) -> Iterator["of_tokens.TokenOut"]:
        return map(of_tokens.TokenOut.model_validate, self._calls.pages("/tokens"))

    def create(self, **asked: Any) -> "of_tokens.TokenMade":
        """The one answer with the secret in it."""
        return of_tokens.TokenMade.model_validate(self._calls.create("/tokens", asked))

    def revoke(self, name: str) -> None:
        self._calls.delete(f"/tokens/{segment(name)}")


class Inventory(Noun):
    def ansible(self, project: str | None = None) -> dict[str, Any]:
        """What an Ansible inventory program prints for --list."""
        return dict(self._calls.get("/inventory", project=project))

    def targets(self, port: int = 9100, project: str | None = None) -> list["of_renderings.Target"]:
        told = self._calls.get("/prometheus-targets", port=port, project=project)
        return [of_renderings.Target.model_validate(target) for target in told]


class Kind(Noun, Generic[Out, Made]):
    """A noun that is listed, shown, made and deleted. Made: the one answer that tells a secret."""

    def __init__(
        self, calls: Calls, path: str, out: Callable[[], type[Out]], made: Callable[[], type[Made]]
    ) -> None:
        super().__init__(calls)
        self._path, self._out, self._made = path, out, made

    def list(self, **filters: Any) -> Iterator[Out]:
        return map(self._out().model_validate, self._calls.pages(self._path, **filters))

    def show(self, name: str) -> Out:
        return self._out().model_validate(self._calls.get(f"{self._path}/{segment(name)}"))

    def create(self, **asked: Any) -> Made:
        return self._made().model_validate(self._calls.create(self._path, asked))

    def delete(self, name: str) -> None:
        self._calls.delete(f"{self._path}/{segment(name)}")


class Events(Noun):
    """What happened, oldest first."""

    def list(self, after: int = 0, subject: str | None = None) -> Iterator["of_events.EventOut"]:
        """Those after the one numbered `after`, to the last one there is."""
        while True:
            told = self._calls.get("/events", after=after, subject=subject, limit=1000)
            for event in map(of_events.EventOut.model_validate, told):
                after = event.id
                yield event
            if not told:
                return

    def follow(self, after: int = 0, subject: str | None = None) -> Iterator["of_events.EventOut"]:
        """Those after `after`, then each as it happens (server-sent events); never ends by itself.

        A stream that breaks goes on after the last event that was given. Raises Unavailable when
        there was none for PATIENCE seconds.
        """
        pause, heard = 0.5, time.monotonic()
        while True:
            try:
                for event in self._streamed(after, subject):
                    after, pause, heard = event.id, 0.5, time.monotonic()
                    yield event
                heard = time.monotonic()  # it was there, and ended in peace
            except ClientError as error:
                later = isinstance(error, Unavailable) or error.status == TOO_MANY
                if not later or time.monotonic() > heard + PATIENCE:
                    raise
            time.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    def _streamed(self, after: int, subject: str | None) -> Iterator["of_events.EventOut"]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        params = given({"after": after, "subject": subject})
        with self._calls.stream("/events", params, headers) as answer:
            for data in _data(answer):
                yield of_events.EventOut.model_validate_json(data)


def _data(answer: httpx.Response) -> Iterator[str]:
    """The data of each event of a stream (HTML Living Standard, 9.2.6)."""
    lines: list[str] = []
    for line in answer.iter_lines():
        if not line and lines:
            yield "\n".join(lines)
            lines = []
        elif line.startswith("data:"):
            lines.append(line[5:].removeprefix(" "))
