"""To whom a claim's nodes are lent: so far it was Metal3 alone"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

BORROWERS = ("METAL3", "IRONIC")


def upgrade() -> None:
    kind = sa.Enum(*BORROWERS, name="borrower")
    op.add_column("lending", sa.Column("borrower", kind, nullable=False, server_default="METAL3"))


def downgrade() -> None:
    op.drop_column("lending", "borrower")
