"""Remember which request submitted a job."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("job", sa.Column("request_id", sa.String(), nullable=True))


def downgrade() -> None:
    """Revert; the log still tells."""
    op.drop_column("job", "request_id")
