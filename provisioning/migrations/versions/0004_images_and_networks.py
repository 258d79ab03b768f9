"""Images and node networks: what is written to a disk, and how a node comes up on its wires"""

import sqlalchemy as sa
from alembic import op

from provisioning import models

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "imagestanding",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.Enum("DRAFT", "PUBLISHED", "DEPRECATED", "WITHDRAWN", name="imagestate"),
            nullable=False,
        ),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("set_by", sa.String(), nullable=False),
        sa.Column("set_at", models.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("name", "version"),
    )
    op.create_table(
        "intake",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("ssh_user", sa.String(), nullable=False),
        sa.Column("architecture", sa.String(), nullable=False),
        sa.Column("draft", sa.Boolean(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("asked_at", models.Utc(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "UPLOADING",
                "WAITING",
                "FETCHING",
                "CHECKING",
                "DONE",
                "REFUSED",
                name="intakestate",
            ),
            nullable=False,
        ),
        sa.Column("bytes_done", sa.Integer(), nullable=False),
        sa.Column("bytes_total", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("problem", sa.String(), nullable=False),
        sa.Column("remedy", sa.String(), nullable=False),
        sa.Column("ended_at", models.Utc(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "keptdisk",
        sa.Column("node_uuid", sa.Uuid(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("wwn", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("kept_by", sa.String(), nullable=False),
        sa.Column("kept_at", models.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("node_uuid", "serial"),
    )
    op.create_table(
        "layout",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("put_by", sa.String(), nullable=False),
        sa.Column("put_at", models.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "network",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("put_by", sa.String(), nullable=False),
        sa.Column("put_at", models.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "registrylogin",
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("set_by", sa.String(), nullable=False),
        sa.Column("set_at", models.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("host"),
    )
    op.create_table(
        "claimsecret",
        sa.Column("claim_id", sa.Uuid(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["claim_id"],
            ["claim.id"],
        ),
        sa.PrimaryKeyConstraint("claim_id"),
    )
    op.create_table(
        "onetimepart",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("node_uuid", sa.Uuid(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("url_hash", sa.String(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("valid_until", models.Utc(), nullable=False),
        sa.Column("reads", sa.Integer(), nullable=False),
        sa.Column("first_read_at", models.Utc(), nullable=True),
        sa.Column("burned_at", models.Utc(), nullable=True),
        sa.Column("made_at", models.Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["order_id"],
            ["order.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("url_hash"),
    )
    with op.batch_alter_table("onetimepart", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_onetimepart_order_id"), ["order_id"], unique=False)

    with op.batch_alter_table("address", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "kind",
                sa.Enum("BOOT", "NODE", "VIP", "RESERVED", name="addresskind"),
                nullable=False,
                server_default="BOOT",
            )
        )
        batch_op.add_column(sa.Column("claim_id", sa.Uuid(), nullable=True))
        batch_op.add_column(sa.Column("label", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("set_by", sa.String(), nullable=False, server_default=""))
        batch_op.alter_column("mac", existing_type=sa.String(), nullable=True)
        batch_op.alter_column("node_uuid", existing_type=sa.Uuid(), nullable=True)
        batch_op.create_index(batch_op.f("ix_address_claim_id"), ["claim_id"], unique=False)
        batch_op.create_foreign_key("address_claim", "claim", ["claim_id"], ["id"])

    with op.batch_alter_table("claim", schema=None) as batch_op:
        batch_op.add_column(sa.Column("layout", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("disks", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.add_column(
            sa.Column("root_raid", sa.Integer(), nullable=False, server_default="0")
        )
        batch_op.add_column(
            sa.Column("kernel_args", sa.JSON(), nullable=False, server_default="[]")
        )
        batch_op.add_column(
            sa.Column("image_version", sa.String(), nullable=False, server_default="")
        )
        batch_op.add_column(
            sa.Column("layout_document", sa.JSON(), nullable=False, server_default="{}")
        )

    with op.batch_alter_table("order", schema=None) as batch_op:
        batch_op.add_column(sa.Column("wanted", sa.JSON(), nullable=False, server_default="{}"))


def downgrade() -> None:
    with op.batch_alter_table("order", schema=None) as batch_op:
        batch_op.drop_column("wanted")

    with op.batch_alter_table("claim", schema=None) as batch_op:
        batch_op.drop_column("layout_document")
        batch_op.drop_column("image_version")
        batch_op.drop_column("kernel_args")
        batch_op.drop_column("root_raid")
        batch_op.drop_column("disks")
        batch_op.drop_column("layout")

    with op.batch_alter_table("address", schema=None) as batch_op:
        batch_op.drop_constraint("address_claim", type_="foreignkey")
        batch_op.drop_index(batch_op.f("ix_address_claim_id"))
        batch_op.alter_column("node_uuid", existing_type=sa.Uuid(), nullable=False)
        batch_op.alter_column("mac", existing_type=sa.String(), nullable=False)
        batch_op.drop_column("set_by")
        batch_op.drop_column("label")
        batch_op.drop_column("claim_id")
        batch_op.drop_column("kind")

    with op.batch_alter_table("onetimepart", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_onetimepart_order_id"))

    op.drop_table("onetimepart")
    op.drop_table("claimsecret")
    op.drop_table("registrylogin")
    op.drop_table("network")
    op.drop_table("layout")
    op.drop_table("keptdisk")
    op.drop_table("intake")
    op.drop_table("imagestanding")
