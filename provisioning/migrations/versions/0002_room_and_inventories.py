"""The room: observations, slots, classes, rotations; what BMCs tell of their servers"""

import sqlalchemy as sa
from alembic import op

from provisioning import models

revision = "0002"
down_revision = "0001"

ROTATION_STEP = sa.Enum(
    "ASKED", "QUIET", "READY", "SENT", "TAKEN", "PROVED", "TOLD", "PROMOTED", "CERTIFYING",
    "CERTIFIED", "FAILING", "FAILED", "STUCK", name="rotationstep",
)  # fmt: skip


def upgrade() -> None:
    op.create_table(
        "hardwareclass",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("put_by", sa.String(), nullable=False),
        sa.Column("put_at", models.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "logintry",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("at", models.Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("logintry", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_logintry_address"), ["address"], unique=False)

    op.create_table(
        "slot",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("row", sa.String(), nullable=False),
        sa.Column("rack", sa.String(), nullable=False),
        sa.Column("unit", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("bmc_mac", sa.String(), nullable=False),
        sa.Column("resource_class", sa.String(), nullable=False),
        sa.Column("technician", sa.String(), nullable=False),
        sa.Column("nics", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("slot", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_slot_bmc_mac"), ["bmc_mac"], unique=False)
        batch_op.create_index(batch_op.f("ix_slot_serial"), ["serial"], unique=False)
        batch_op.create_index("one_per_unit", ["site", "row", "rack", "unit"], unique=True)

    op.create_table(
        "observation",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("system_uuid", sa.String(), nullable=False),
        sa.Column("bmc_mac", sa.String(), nullable=False),
        sa.Column("bmc_address", sa.String(), nullable=False),
        sa.Column("macs", sa.JSON(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("node_name", sa.String(), nullable=False),
        sa.Column("resource_class", sa.String(), nullable=False),
        sa.Column("accept_by", sa.String(), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=True),
        sa.Column("found_at", models.Utc(), nullable=False),
        sa.Column("seen_at", models.Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["credential_id"],
            ["credential.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("source", "key"),
    )
    with op.batch_alter_table("observation", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_observation_accept_by"), ["accept_by"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_observation_credential_id"), ["credential_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_observation_bmc_mac"), ["bmc_mac"], unique=False)
        batch_op.create_index(batch_op.f("ix_observation_serial"), ["serial"], unique=False)

    op.create_table(
        "rotation",
        sa.Column("bmc_id", sa.Uuid(), nullable=False),
        sa.Column("candidate_id", sa.Uuid(), nullable=True),
        sa.Column("step", ROTATION_STEP, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("certificate", sa.String(), nullable=False),
        sa.Column("problem", sa.String(), nullable=False),
        sa.Column("remedy", sa.String(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("asked_at", models.Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["bmc_id"],
            ["bmc.id"],
        ),
        sa.ForeignKeyConstraint(
            ["candidate_id"],
            ["credential.id"],
        ),
        sa.PrimaryKeyConstraint("bmc_id"),
    )
    with op.batch_alter_table("bmc", schema=None) as batch_op:
        batch_op.add_column(sa.Column("inventory", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("inventory_at", models.Utc(), nullable=True))
        batch_op.add_column(sa.Column("ramdisk", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("ramdisk_at", models.Utc(), nullable=True))
        batch_op.add_column(sa.Column("baseline", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("adoption", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("abilities", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("findings", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.add_column(sa.Column("misfit", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.add_column(sa.Column("trust", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("offered", sa.String(), nullable=False, server_default=""))
        batch_op.create_index(batch_op.f("ix_bmc_credential_id"), ["credential_id"], unique=False)
        batch_op.add_column(
            sa.Column("ramdisk_baseline", sa.JSON(), nullable=False, server_default="{}")
        )
        batch_op.add_column(
            sa.Column("hardware_class", sa.String(), nullable=False, server_default="")
        )
        batch_op.add_column(
            sa.Column("class_said", sa.Boolean(), nullable=False, server_default="0")
        )
        batch_op.add_column(sa.Column("classed", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("drift", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.add_column(sa.Column("judged", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(
            sa.Column("stale_inspection", sa.String(), nullable=False, server_default="")
        )
        for name in ("survey_asked_at", "led_asked_at", "survey_at", "led_at"):
            batch_op.add_column(sa.Column(name, models.Utc(), nullable=True))
        for name in ("led_wanted", "survey_problem", "survey_remedy", "led", "led_problem"):
            batch_op.add_column(sa.Column(name, sa.String(), nullable=False, server_default=""))

    with op.batch_alter_table("discovery", schema=None) as batch_op:
        batch_op.add_column(sa.Column("exclude", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.add_column(sa.Column("options", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("progress", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    with op.batch_alter_table("discovery", schema=None) as batch_op:
        batch_op.drop_column("progress")
        batch_op.drop_column("options")
        batch_op.drop_column("exclude")

    with op.batch_alter_table("bmc", schema=None) as batch_op:
        batch_op.drop_column("offered")
        batch_op.drop_column("trust")
        batch_op.drop_index(batch_op.f("ix_bmc_credential_id"))
        batch_op.drop_column("stale_inspection")
        batch_op.drop_column("judged")
        batch_op.drop_column("drift")
        batch_op.drop_column("classed")
        batch_op.drop_column("class_said")
        batch_op.drop_column("hardware_class")
        batch_op.drop_column("ramdisk_baseline")
        for name in (
            "led_problem", "led", "survey_remedy", "survey_problem", "led_wanted",
            "led_at", "survey_at", "led_asked_at", "survey_asked_at", "misfit",
        ):  # fmt: skip
            batch_op.drop_column(name)
        batch_op.drop_column("findings")
        batch_op.drop_column("abilities")
        batch_op.drop_column("adoption")
        batch_op.drop_column("baseline")
        batch_op.drop_column("ramdisk_at")
        batch_op.drop_column("ramdisk")
        batch_op.drop_column("inventory_at")
        batch_op.drop_column("inventory")

    op.drop_table("rotation")
    with op.batch_alter_table("observation", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_observation_serial"))
        batch_op.drop_index(batch_op.f("ix_observation_bmc_mac"))
        batch_op.drop_index(batch_op.f("ix_observation_credential_id"))
        batch_op.drop_index(batch_op.f("ix_observation_accept_by"))

    op.drop_table("observation")
    with op.batch_alter_table("slot", schema=None) as batch_op:
        batch_op.drop_index("one_per_unit")
        batch_op.drop_index(batch_op.f("ix_slot_serial"))
        batch_op.drop_index(batch_op.f("ix_slot_bmc_mac"))

    op.drop_table("slot")
    with op.batch_alter_table("logintry", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_logintry_address"))

    op.drop_table("logintry")
    op.drop_table("hardwareclass")
