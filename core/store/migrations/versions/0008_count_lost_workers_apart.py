"""Count lost workers and full disks apart from crashes; note whether an attempt made progress."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply; losses that were counted as crashes are forgotten together with those."""
    op.add_column(
        "job", sa.Column("progressed", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    for name in ("losses", "shortages"):
        op.add_column("job", sa.Column(name, sa.Integer(), server_default="0", nullable=False))
    op.execute("UPDATE job SET progressed = (last_step > step_at_claim), stalls = 0")
    op.drop_column("job", "step_at_claim")


def downgrade() -> None:
    """Revert."""
    op.add_column(
        "job", sa.Column("step_at_claim", sa.Integer(), server_default="0", nullable=False)
    )
    op.execute("UPDATE job SET step_at_claim = last_step WHERE NOT progressed")
    op.drop_column("job", "shortages")
    op.drop_column("job", "losses")
    op.drop_column("job", "progressed")
