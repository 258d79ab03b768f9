"""Add-ons: of which bundle a cluster has them, and whose objects in its API were made"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

CLUSTER = sa.table(
    "cluster", sa.column("id", sa.Uuid()), sa.column("bundle", sa.JSON()),
    sa.column("applied", sa.String()),
)  # fmt: skip
MEMBER = sa.table(
    "member", sa.column("cluster_id", sa.Uuid()), sa.column("role", sa.String()),
    sa.column("joined_at"), sa.column("furnished", sa.Boolean()),
)  # fmt: skip


def upgrade() -> None:
    """Whoever joined before has volumes of the first control plane, or of its owner's own: no
    others are made beside them."""
    op.add_column("cluster", sa.Column("applied", sa.String(), nullable=False, server_default=""))
    op.add_column(
        "member", sa.Column("furnished", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column(
        "member", sa.Column("leads", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    joined = MEMBER.c.joined_at.is_not(None)
    op.execute(MEMBER.update().where(joined).values(furnished=True))
    begun = sa.select(MEMBER.c.cluster_id).where(joined, MEMBER.c.role == "control")
    found = op.get_bind().execute(sa.select(CLUSTER).where(CLUSTER.c.id.in_(begun))).all()
    for row in found:
        applied = str((row.bundle or {}).get("digest", "")) or "none"
        op.execute(CLUSTER.update().where(CLUSTER.c.id == row.id).values(applied=applied))


def downgrade() -> None:
    op.drop_column("member", "furnished")
    op.drop_column("member", "leads")
    op.drop_column("cluster", "applied")
