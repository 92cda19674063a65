"""Give datasets, jobs and models an owner, and make room for API keys."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OWNED = ("dataset", "job", "model")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("last_used_at", sa.Float(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    # Not in batches: those build a table anew, and SQLite refuses to drop the old one while rows
    # of other tables refer to it. Both databases rename and add columns in place.
    op.execute("ALTER TABLE job RENAME COLUMN owner TO worker")
    for table in OWNED:
        op.add_column(
            table, sa.Column("owner", sa.String(), server_default="default", nullable=False)
        )
        op.create_index(f"ix_{table}_owner", table, ["owner"])
    op.execute("UPDATE idempotency_key SET key = 'default/' || key")


def downgrade() -> None:
    """Revert; idempotency keys of other owners are forgotten."""
    op.execute("DELETE FROM idempotency_key WHERE key NOT LIKE 'default/%'")
    op.execute("UPDATE idempotency_key SET key = substr(key, 9)")
    for table in OWNED:
        op.drop_index(f"ix_{table}_owner", table)
        op.execute(f"ALTER TABLE {table} DROP COLUMN owner")
    op.execute("ALTER TABLE job RENAME COLUMN worker TO owner")
    op.drop_table("api_key")
