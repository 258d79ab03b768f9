"""Projects: whose claims they are, and who may claim."""

from sqlmodel import Session, col, delete, select

from provisioning.errors import Conflict, Forbidden, NotFound
from provisioning.hooks import Webhook
from provisioning.models import Claim, Token, now
from provisioning.store import record
from provisioning.tenants import Project, Quota, User

DEFAULT = "default"
"""Made with the database; where a caller's claims are who was given no project."""


def find(session: Session, name: str) -> Project:
    """The project, also a disabled one. Raises NotFound."""
    project = session.get(Project, name)
    if project is None:
        raise NotFound(f"there is no project {name!r}", f"`seed project create {name}`")
    return project


def usable(session: Session, name: str) -> Project:
    """The project, to put something new into. Raises NotFound, and Conflict if it is disabled."""
    project = find(session, name)
    if project.disabled_at is not None:
        raise Conflict(f"the project {name} is disabled", f"`seed project enable {name}`")
    return project


def may_claim(session: Session, name: str) -> Project:
    """The project, for a new claim. Raises NotFound, and Forbidden if it is disabled."""
    project = find(session, name)
    if project.disabled_at is not None:
        raise Forbidden(
            f"the project {name} is disabled: its claims can be seen and released only",
            f"`seed project enable {name}`, by an operator.",
        )
    return project


def remove(session: Session, name: str, who: str) -> None:
    """Forget a project with its quotas. Raises Conflict while something living names it."""
    project = find(session, name)
    if name == DEFAULT:
        raise Conflict(
            f"the project {DEFAULT} stays: whoever is given no project is in it",
            f"`seed project disable {DEFAULT}`",
        )
    if users := _living(session, name):
        raise Conflict(
            f"the project {name} is in use: {', '.join(users)}",
            f"End these first; or keep it from claiming: `seed project disable {name}`.",
        )
    session.execute(delete(Token).where(col(Token.project) == name))  # expired ones
    session.execute(delete(Quota).where(col(Quota.project) == name))
    session.flush()  # no relationship says that the quotas go first
    session.delete(project)
    record(session, "project.removed", name, f"project {name} removed", who=who)


def _living(session: Session, name: str) -> list[str]:
    """What names it, in words; at most three of each kind."""
    found = {
        "claim": select(Claim.name).where(Claim.project == name, col(Claim.ended_at).is_(None)),
        "user": select(User.name).where(User.project == name),
        "token": select(Token.name).where(Token.project == name, Token.expires_at > now()),
        "webhook": select(Webhook.name).where(Webhook.project == name),
    }
    return [
        f"{kind} {one}" for kind, query in found.items() for one in session.exec(query.limit(3))
    ]
