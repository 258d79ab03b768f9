"""The first tables"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:

    op.create_table(
        "address",
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("network", sa.String(), nullable=False),
        sa.Column("mac", sa.String(), nullable=False),
        sa.Column("node_uuid", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("address"),
        sa.UniqueConstraint("mac"),
    )
    with op.batch_alter_table("address", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_address_node_uuid"), ["node_uuid"], unique=False)

    op.create_table(
        "claim",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("resource_class", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("image", sa.String(), nullable=False),
        sa.Column("ssh_keys", sa.JSON(), nullable=False),
        sa.Column("user_data", sa.String(length=49152), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("wanted", sa.Enum("ACTIVE", "RELEASED", name="wanted"), nullable=False),
        sa.Column("undo_until", sa.DateTime(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "REQUESTED",
                "ALLOCATED",
                "DEPLOYING",
                "PROVING",
                "ACTIVE",
                "FAILED",
                "RELEASING",
                "CLEANING",
                "RELEASED",
                name="claimstate",
            ),
            nullable=False,
        ),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("problem", sa.String(), nullable=False),
        sa.Column("remedy", sa.String(), nullable=False),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("claim", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_claim_project"), ["project"], unique=False)
        batch_op.create_index(
            "living_name",
            ["project", "name"],
            unique=True,
            sqlite_where=sa.text("ended_at IS NULL"),
        )

    op.create_table(
        "credential",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_event_kind"), ["kind"], unique=False)
        batch_op.create_index(batch_op.f("ix_event_subject"), ["subject"], unique=False)

    op.create_table(
        "order",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("node_uuid", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Enum("INSPECT", "CLEAN", "DEPLOY", name="orderkind"), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("macs", sa.JSON(), nullable=False),
        sa.Column("bmc_address", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("proof_hash", sa.String(), nullable=False),
        sa.Column("opened_at", sa.DateTime(), nullable=False),
        sa.Column("ironic_done_at", sa.DateTime(), nullable=True),
        sa.Column("closed_at", sa.DateTime(), nullable=True),
        sa.Column("agent_address", sa.String(), nullable=False),
        sa.Column("agent_macs", sa.JSON(), nullable=False),
        sa.Column("lookup_at", sa.DateTime(), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(), nullable=True),
        sa.Column("alarm", sa.String(), nullable=False),
        sa.Column("proof", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("proof_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("order", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_order_node_uuid"), ["node_uuid"], unique=False)
        batch_op.create_index(
            "one_open_order", ["node_uuid"], unique=True, sqlite_where=sa.text("closed_at IS NULL")
        )

    op.create_table(
        "plan",
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("verb", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_table(
        "token",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "bmc",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("protocol", sa.String(), nullable=False),
        sa.Column(
            "goal",
            sa.Enum("OBSERVED", "MANAGED", "AVAILABLE", "FORGOTTEN", name="bmcgoal"),
            nullable=False,
        ),
        sa.Column("node_uuid", sa.Uuid(), nullable=True),
        sa.Column("node_name", sa.String(), nullable=True),
        sa.Column("resource_class", sa.String(), nullable=False),
        sa.Column("accepted_by", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=True),
        sa.Column("login", sa.Enum("NONE", "OK", "REFUSED", name="login"), nullable=False),
        sa.Column("refused", sa.JSON(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("certificate", sa.String(), nullable=False),
        sa.Column("vendor", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("system_uuid", sa.String(), nullable=False),
        sa.Column("system_id", sa.String(), nullable=False),
        sa.Column("manager_mac", sa.String(), nullable=False),
        sa.Column("macs", sa.JSON(), nullable=False),
        sa.Column("firmware", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("problem", sa.String(), nullable=False),
        sa.Column("remedy", sa.String(), nullable=False),
        sa.Column("told_ironic", sa.Uuid(), nullable=True),
        sa.Column("failed_attempt", sa.Integer(), nullable=False),
        sa.Column("found_at", sa.DateTime(), nullable=False),
        sa.Column("seen_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["credential_id"],
            ["credential.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("address"),
        sa.UniqueConstraint("node_name"),
        sa.UniqueConstraint("node_uuid"),
    )
    op.create_table(
        "discovery",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("ranges", sa.JSON(), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=True),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("addresses", sa.Integer(), nullable=False),
        sa.Column("found", sa.Integer(), nullable=False),
        sa.Column("logged_in", sa.Integer(), nullable=False),
        sa.Column("problems", sa.JSON(), nullable=False),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["credential_id"],
            ["credential.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "hold",
        sa.Column("node_uuid", sa.Uuid(), nullable=False),
        sa.Column("claim_id", sa.Uuid(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["claim_id"],
            ["claim.id"],
        ),
        sa.PrimaryKeyConstraint("node_uuid"),
    )
    with op.batch_alter_table("hold", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_hold_claim_id"), ["claim_id"], unique=False)


def downgrade() -> None:

    with op.batch_alter_table("hold", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_hold_claim_id"))

    op.drop_table("hold")
    op.drop_table("discovery")
    op.drop_table("bmc")
    op.drop_table("token")
    op.drop_table("plan")
    with op.batch_alter_table("order", schema=None) as batch_op:
        batch_op.drop_index("one_open_order", sqlite_where=sa.text("closed_at IS NULL"))
        batch_op.drop_index(batch_op.f("ix_order_node_uuid"))

    op.drop_table("order")
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_event_subject"))
        batch_op.drop_index(batch_op.f("ix_event_kind"))

    op.drop_table("event")
    op.drop_table("credential")
    with op.batch_alter_table("claim", schema=None) as batch_op:
        batch_op.drop_index("living_name", sqlite_where=sa.text("ended_at IS NULL"))
        batch_op.drop_index(batch_op.f("ix_claim_project"))

    op.drop_table("claim")
    with op.batch_alter_table("address", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_address_node_uuid"))

    op.drop_table("address")
