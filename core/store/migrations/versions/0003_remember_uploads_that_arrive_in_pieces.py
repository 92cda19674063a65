"""Remember uploads that arrive in pieces."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "partial_upload",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), server_default="default", nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("filename", sa.String(), nullable=True),
        sa.Column("upload_metadata", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_partial_upload_owner", "partial_upload", ["owner"])


def downgrade() -> None:
    """Revert; uploads that were not used yet are forgotten."""
    op.drop_index("ix_partial_upload_owner", "partial_upload")
    op.drop_table("partial_upload")
