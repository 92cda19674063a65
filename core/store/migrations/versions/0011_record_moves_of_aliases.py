"""Record moves of aliases."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "alias_move",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("previous", sa.Integer(), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("owner", sa.String(), server_default="default", nullable=False),
        sa.ForeignKeyConstraint(["name"], ["model.name"]),
        sa.PrimaryKeyConstraint("name", "alias", "seq"),
    )
    op.create_index("ix_alias_move_owner", "alias_move", ["owner"])


def downgrade() -> None:
    """Revert; the record is lost."""
    op.drop_table("alias_move")
