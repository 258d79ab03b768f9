"""Tokens that end with who made them."""

from collections.abc import Collection

from sqlmodel import Session, col, select

from provisioning.models import Token

MINTERS = frozenset({"operator", "destroyer"})
"""Roles that make tokens for others. A token of anybody else's making is for itself."""
MOST = 100
"""Tokens that somebody may have made for itself."""


def made_by(session: Session, name: str, project: str) -> list[Token]:
    """Tokens for programs that somebody of this name made in this project."""
    return list(
        session.exec(
            select(Token)
            .where(Token.created_by == name, Token.user == "", Token.project == project)
            .order_by(col(Token.name))
        )
    )


def end_with(session: Session, name: str, project: str, roles: Collection[str]) -> list[str]:
    """End what a user or token made for itself, and what that made; names of the ended ones.

    What a minter made for others goes on: it is not the minter's own.
    """
    ended: list[str] = []
    if not MINTERS & set(roles):
        for token in made_by(session, name, project):
            session.delete(token)
            session.flush()  # one that made itself its own maker's maker is met once
            ended += [token.name, *end_with(session, token.name, project, token.roles)]
    return ended
