"""Remember the exception that ended an attempt."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("job", sa.Column("fault", sa.String(), nullable=True))


def downgrade() -> None:
    """Revert; an exception that comes again counts as the first."""
    op.drop_column("job", "fault")
