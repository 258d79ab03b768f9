"""Clusters and their members"""

import sqlalchemy as sa
from alembic import op

from provisioning import models

revision = "0005"
down_revision = "0004"

STATES = (
    "CLAIMING", "DEPLOYING", "BOOTSTRAPPING", "READY", "DEGRADED", "UPGRADING", "RELEASING",
    "RELEASED",
)  # fmt: skip
LENDING = ("ASKED", "QUIET", "LENT", "RETURNING", "ROTATED", "OFF")
PARTINGS = ("NO", "DRAINING", "LEAVING", "LEFT", "LOST", "FORGOTTEN")


def upgrade() -> None:
    op.create_table(
        "cluster",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("released", sa.Boolean(), nullable=False),
        sa.Column("undo_until", models.Utc(), nullable=True),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("network", sa.String(), nullable=False),
        sa.Column("vip", sa.String(), nullable=False),
        sa.Column("bundle", sa.JSON(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("bound", sa.Boolean(), nullable=False),
        sa.Column("autoscaler", sa.String(), nullable=False),
        sa.Column("created_at", models.Utc(), nullable=False),
        sa.Column("state", sa.Enum(*STATES, name="clusterstate"), nullable=False),
        sa.Column("since", models.Utc(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("problem", sa.String(), nullable=False),
        sa.Column("remedy", sa.String(), nullable=False),
        sa.Column("ended_at", models.Utc(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_cluster_project", "cluster", ["project"])
    op.create_index(
        "living_cluster", "cluster", ["project", "name"], unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
    )  # fmt: skip
    op.create_table(
        "member",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("cluster_id", sa.Uuid(), nullable=False),
        sa.Column("claim_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("goal", sa.Enum("JOINED", "LEAVING", "GONE", name="membergoal"), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("parting", sa.Enum(*PARTINGS, name="parting"), nullable=False),
        sa.Column("parted_at", models.Utc(), nullable=True),
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("step_state", sa.String(), nullable=False),
        sa.Column("step_detail", sa.String(), nullable=False),
        sa.Column("missing", sa.String(), nullable=False),
        sa.Column("told_at", models.Utc(), nullable=True),
        sa.Column("joined_at", models.Utc(), nullable=True),
        sa.Column("ended_at", models.Utc(), nullable=True),
        sa.ForeignKeyConstraint(["cluster_id"], ["cluster.id"]),
        sa.ForeignKeyConstraint(["claim_id"], ["claim.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("claim_id"),
    )
    op.create_index("ix_member_cluster_id", "member", ["cluster_id"])
    op.create_index("member_name", "member", ["cluster_id", "name"], unique=True)
    op.create_index("member_token", "member", ["token_hash"])
    op.create_table(
        "membervalue",
        sa.Column("cluster_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("put_by", sa.String(), nullable=False),
        sa.Column("put_at", models.Utc(), nullable=False),
        sa.ForeignKeyConstraint(["cluster_id"], ["cluster.id"]),
        sa.PrimaryKeyConstraint("cluster_id", "name"),
    )
    op.create_table(
        "clustersecret",
        sa.Column("cluster_id", sa.Uuid(), nullable=False),
        sa.Column("names", sa.JSON(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["cluster_id"], ["cluster.id"]),
        sa.PrimaryKeyConstraint("cluster_id"),
    )
    op.create_table(
        "kubecertificate",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("cluster_id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("csr", sa.String(), nullable=False),
        sa.Column("groups", sa.JSON(), nullable=False),
        sa.Column("asked_at", models.Utc(), nullable=False),
        sa.Column("certificate", sa.String(), nullable=False),
        sa.Column("ca", sa.String(), nullable=False),
        sa.Column("server", sa.String(), nullable=False),
        sa.Column("signed_at", models.Utc(), nullable=True),
        sa.Column("expires_at", models.Utc(), nullable=True),
        sa.ForeignKeyConstraint(["cluster_id"], ["cluster.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_kubecertificate_cluster_id", "kubecertificate", ["cluster_id"])
    op.create_table(
        "clustercheck",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("cluster_id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("asked_at", models.Utc(), nullable=False),
        sa.Column("started_at", models.Utc(), nullable=True),
        sa.Column("items", sa.JSON(), nullable=False),
        sa.Column("cleaning", sa.Boolean(), nullable=False),
        sa.Column("told", sa.JSON(), nullable=False),
        sa.Column("ended_at", models.Utc(), nullable=True),
        sa.ForeignKeyConstraint(["cluster_id"], ["cluster.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_clustercheck_cluster_id", "clustercheck", ["cluster_id"])
    op.create_table(
        "lending",
        sa.Column("claim_id", sa.Uuid(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("asked_at", models.Utc(), nullable=False),
        sa.Column("keep_logins", sa.Boolean(), nullable=False),
        sa.Column("step", sa.Enum(*LENDING, name="lendingstep"), nullable=False),
        sa.Column("since", models.Utc(), nullable=False),
        sa.ForeignKeyConstraint(["claim_id"], ["claim.id"]),
        sa.PrimaryKeyConstraint("claim_id"),
    )


def downgrade() -> None:
    op.drop_table("lending")
    op.drop_table("clustercheck")
    op.drop_table("kubecertificate")
    op.drop_table("clustersecret")
    op.drop_table("membervalue")
    op.drop_table("member")
    op.drop_table("cluster")
