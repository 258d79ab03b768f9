"""Overclouds: clusters of another noun, stages of their installers, clouds.yaml for their people"""

import sqlalchemy as sa
from alembic import op

from provisioning import models

revision = "0007"
down_revision = "0006"

NOUNS = ("CLUSTER", "OVERCLOUD")
STAGES = ("WAITING", "RUNNING", "DONE", "FAILED")


def upgrade() -> None:
    op.add_column(
        "cluster",
        sa.Column("noun", sa.Enum(*NOUNS, name="noun"), nullable=False, server_default="CLUSTER"),
    )
    op.create_table(
        "overcloud_stage",
        sa.Column("cluster_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.Enum(*STAGES, name="stagestate"), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("nodes", sa.JSON(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("hosts", sa.JSON(), nullable=False),
        sa.Column("unreachable", sa.Boolean(), nullable=False),
        sa.Column("log", sa.String(), nullable=False),
        sa.Column("began_at", models.Utc(), nullable=True),
        sa.Column("ended_at", models.Utc(), nullable=True),
        sa.ForeignKeyConstraint(["cluster_id"], ["cluster.id"]),
        sa.PrimaryKeyConstraint("cluster_id", "name"),
    )
    op.create_table(
        "overcloud_access",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("cluster_id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("asked_at", models.Utc(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_at", models.Utc(), nullable=True),
        sa.ForeignKeyConstraint(["cluster_id"], ["cluster.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_overcloud_access_cluster_id", "overcloud_access", ["cluster_id"])


def downgrade() -> None:
    op.drop_table("overcloud_access")
    op.drop_table("overcloud_stage")
    op.drop_column("cluster", "noun")
