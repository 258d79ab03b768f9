"""Members whose add-ons have what they want of them in the API"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Of those of before, the first control plane made it: Seed finds it there and leaves it."""
    op.add_column(
        "member", sa.Column("furnished", sa.Boolean(), nullable=False, server_default=sa.false())
    )


def downgrade() -> None:
    op.drop_column("member", "furnished")
