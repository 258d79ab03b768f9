"""Handing out: what claims may ask for, leases, projects, users, webhooks, chained events, a cache"""

import sqlalchemy as sa
from alembic import op

from provisioning import models

revision = "0003"
down_revision = "0002"


# Who repairs history by hand must take these away first, and the chain still shows it. The third
# also stops INSERT OR REPLACE, which deletes a row without asking the second. A later migration
# that makes the table anew must make them anew, too: SQLite drops them with the table.
GUARDS = {
    "event_never_changes": "BEFORE UPDATE ON event",
    "event_never_goes": "BEFORE DELETE ON event",
    "event_only_grows": (
        "BEFORE INSERT ON event WHEN EXISTS (SELECT 1 FROM event WHERE id >= NEW.id)"
    ),
}


def upgrade() -> None:
    op.create_table(
        "breakglass",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("opened_at", models.Utc(), nullable=False),
        sa.Column("until", models.Utc(), nullable=False),
        sa.Column("closed_at", models.Utc(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("breakglass", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_breakglass_who"), ["who"], unique=False)

    op.create_table(
        "keptanswer",
        sa.Column("caller", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("request", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", models.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("caller", "key"),
    )
    with op.batch_alter_table("keptanswer", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_keptanswer_created_at"), ["created_at"], unique=False)

    op.create_table(
        "pass",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", models.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "project",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("max_priority", sa.Integer(), nullable=False),
        sa.Column("max_lease_seconds", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", models.Utc(), nullable=False),
        sa.Column("disabled_at", models.Utc(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "sight",
        sa.Column("node_uuid", sa.Uuid(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("seen_at", models.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("node_uuid"),
    )
    op.create_table(
        "webhook",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("kinds", sa.JSON(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("after", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", models.Utc(), nullable=False),
        sa.Column("disabled_at", models.Utc(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", "name"),
    )
    op.create_table(
        "booking",
        sa.Column("claim_id", sa.Uuid(), nullable=False),
        sa.Column("node_uuid", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("starts_at", models.Utc(), nullable=False),
        sa.Column("ends_at", models.Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["claim_id"],
            ["claim.id"],
        ),
        sa.PrimaryKeyConstraint("claim_id", "node_uuid"),
    )
    op.create_table(
        "delivery",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("webhook_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column(
            "state", sa.Enum("PENDING", "DELIVERED", "DEAD", name="deliverystate"), nullable=False
        ),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", models.Utc(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("delivered_at", models.Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["event_id"],
            ["event.id"],
        ),
        sa.ForeignKeyConstraint(
            ["webhook_id"],
            ["webhook.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("webhook_id", "event_id"),
    )
    with op.batch_alter_table("delivery", schema=None) as batch_op:
        batch_op.create_index("due_deliveries", ["state", "next_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_delivery_webhook_id"), ["webhook_id"], unique=False)

    op.create_table(
        "quota",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("resource_class", sa.String(), nullable=False),
        sa.Column("nodes", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["project.name"],
        ),
        sa.PrimaryKeyConstraint("project", "resource_class"),
    )
    op.create_table(
        "user",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("blocked_until", models.Utc(), nullable=True),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", models.Utc(), nullable=False),
        sa.Column("disabled_at", models.Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project"],
            ["project.name"],
        ),
        sa.PrimaryKeyConstraint("name"),
    )
    with op.batch_alter_table("bmc", schema=None) as batch_op:
        batch_op.add_column(sa.Column("labels", sa.JSON(), nullable=False, server_default="{}"))

    with op.batch_alter_table("claim", schema=None) as batch_op:
        batch_op.add_column(sa.Column("traits", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.add_column(sa.Column("labels", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("racks", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.add_column(sa.Column("nodes", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.add_column(sa.Column("cpus", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(
            sa.Column("memory_gib", sa.Integer(), nullable=False, server_default="0")
        )
        batch_op.add_column(sa.Column("disk_gib", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("spread", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("pack", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(
            sa.Column("root_device", sa.JSON(), nullable=False, server_default="{}")
        )
        batch_op.add_column(sa.Column("hostnames", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(
            sa.Column("protected", sa.Boolean(), nullable=False, server_default="0")
        )
        batch_op.add_column(
            sa.Column(
                "if_full",
                sa.Enum("REFUSE", "QUEUE", name="iffull"),
                nullable=False,
                server_default="REFUSE",
            )
        )
        batch_op.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("starts_at", models.Utc(), nullable=True))
        batch_op.add_column(sa.Column("ends_at", models.Utc(), nullable=True))
        batch_op.add_column(sa.Column("lease_seconds", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("renewed_to", models.Utc(), nullable=True))
        batch_op.add_column(
            sa.Column("grace_seconds", sa.Integer(), nullable=False, server_default="0")
        )
        batch_op.add_column(
            sa.Column("min_disk_gib", sa.Integer(), nullable=False, server_default="0")
        )
        batch_op.add_column(sa.Column("held_at", models.Utc(), nullable=True))
        batch_op.add_column(sa.Column("warned", sa.JSON(), nullable=False, server_default="[]"))

    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.add_column(sa.Column("why", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("plan", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("request_id", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("previous", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("hash", sa.String(), nullable=False, server_default=""))
        batch_op.create_index(batch_op.f("ix_event_project"), ["project"], unique=False)

    with op.batch_alter_table("slot", schema=None) as batch_op:
        batch_op.add_column(sa.Column("feed", sa.String(), nullable=False, server_default=""))

    with op.batch_alter_table("token", schema=None) as batch_op:
        batch_op.add_column(sa.Column("user", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("scopes", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.add_column(sa.Column("created_by", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("last_used_at", models.Utc(), nullable=True))
        batch_op.create_index(batch_op.f("ix_token_user"), ["user"], unique=False)

    # Projects were only words so far: each that is in use becomes one.
    op.execute(
        "INSERT INTO project (name, description, max_priority, max_lease_seconds, created_by,"
        " created_at) SELECT name, '', 0, 0, 'seed', CURRENT_TIMESTAMP FROM (SELECT 'default' AS"
        " name UNION SELECT project FROM claim UNION SELECT project FROM token)"
    )
    for name, when in GUARDS.items():
        op.execute(
            f"CREATE TRIGGER {name} {when} BEGIN SELECT RAISE(ABORT, 'events are only appended');"
            " END"
        )


def downgrade() -> None:
    for name in GUARDS:
        op.execute(f"DROP TRIGGER {name}")

    with op.batch_alter_table("token", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_token_user"))
        batch_op.drop_column("last_used_at")
        batch_op.drop_column("created_by")
        batch_op.drop_column("scopes")
        batch_op.drop_column("user")

    with op.batch_alter_table("slot", schema=None) as batch_op:
        batch_op.drop_column("feed")

    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_event_project"))
        batch_op.drop_column("hash")
        batch_op.drop_column("previous")
        batch_op.drop_column("request_id")
        batch_op.drop_column("plan")
        batch_op.drop_column("why")

    with op.batch_alter_table("claim", schema=None) as batch_op:
        batch_op.drop_column("warned")
        batch_op.drop_column("held_at")
        batch_op.drop_column("min_disk_gib")
        batch_op.drop_column("grace_seconds")
        batch_op.drop_column("renewed_to")
        batch_op.drop_column("lease_seconds")
        batch_op.drop_column("ends_at")
        batch_op.drop_column("starts_at")
        batch_op.drop_column("priority")
        batch_op.drop_column("if_full")
        batch_op.drop_column("protected")
        batch_op.drop_column("hostnames")
        batch_op.drop_column("root_device")
        batch_op.drop_column("pack")
        batch_op.drop_column("spread")
        batch_op.drop_column("disk_gib")
        batch_op.drop_column("memory_gib")
        batch_op.drop_column("cpus")
        batch_op.drop_column("nodes")
        batch_op.drop_column("racks")
        batch_op.drop_column("labels")
        batch_op.drop_column("traits")

    with op.batch_alter_table("bmc", schema=None) as batch_op:
        batch_op.drop_column("labels")

    op.drop_table("user")
    op.drop_table("quota")
    with op.batch_alter_table("delivery", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_delivery_webhook_id"))
        batch_op.drop_index("due_deliveries")

    op.drop_table("delivery")
    op.drop_table("booking")
    op.drop_table("webhook")
    op.drop_table("sight")
    op.drop_table("project")
    op.drop_table("pass")
    with op.batch_alter_table("keptanswer", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_keptanswer_created_at"))

    op.drop_table("keptanswer")
    with op.batch_alter_table("breakglass", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_breakglass_who"))

    op.drop_table("breakglass")
