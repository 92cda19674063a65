"""Record shards of versions, numbers of models, workers and chores; let jobs pause and wait."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply; shards of older versions are learnt from their manifests by the first collection."""
    op.create_table(
        "dataset_shard",
        sa.Column("shard", sa.String(), nullable=False),
        sa.Column("dataset_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"]),
        sa.PrimaryKeyConstraint("shard", "dataset_id", "number"),
    )
    op.create_table(
        "model_counter",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    chores = op.create_table(
        "chore",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("began_at", sa.Float(), nullable=False),
        sa.Column("objects", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.execute(
        "INSERT INTO model_counter (name, last_number)"
        " SELECT name, max(number) FROM model_version GROUP BY name"
    )
    op.bulk_insert(chores, [{"name": "garbage", "began_at": 0.0, "objects": 0, "bytes": 0}])
    op.create_table(
        "worker",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.add_column("job", sa.Column("pause_requested_at", sa.Float(), nullable=True))
    op.add_column("job", sa.Column("lacks", sa.String(), nullable=True))
    op.add_column("job", sa.Column("not_before", sa.Float(), nullable=True))


def downgrade() -> None:
    """Revert."""
    for column in ("not_before", "lacks", "pause_requested_at"):
        op.execute(f"ALTER TABLE job DROP COLUMN {column}")
    for table in ("worker", "chore", "model_counter", "dataset_shard"):
        op.drop_table(table)
