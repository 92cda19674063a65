"""Let a backup pause the removal of objects."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "chore", sa.Column("paused_until", sa.Float(), server_default="0", nullable=False)
    )


def downgrade() -> None:
    """Revert."""
    op.drop_column("chore", "paused_until")
