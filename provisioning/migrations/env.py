"""Alembic's entry: the connection is given by provisioning.migrations, never an address."""

from alembic import context
from sqlmodel import SQLModel

from provisioning import (
    cluster_rows,
    fabric,
    hooks,
    lent,
    models,
    one_time,
    room,
    shelf,
    sight,
    tenants,
)

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,  # SQLite cannot alter a table in place
    user_module_prefix="models.",
)
for known in (
    cluster_rows,
    models,
    room,
    tenants,
    hooks,
    lent,
    sight,
    fabric,
    shelf,
    one_time,
):  # importing them made the tables known
    assert known.SQLModel.metadata is SQLModel.metadata  # noqa: S101
with context.begin_transaction():
    context.run_migrations()
