"""Dataset rows: create, refer to versions, list, delete."""

import pytest
from sqlalchemy import event

from core.domain import datasets, jobs, leases, registry
from core.store.resources import Resources
from tests.claims import claim_best
from topwork.errors import DatasetInUse, DatasetNotFound, DatasetNotReady


def create(resources: Resources, name: str = "pets") -> str:
    with resources.database.write() as session:
        return datasets.create(session, name=name, upload="uploads/x", metadata={"a": 1}).id


def publish(resources: Resources, dataset_id: str, number: int) -> None:
    with resources.database.write() as session:
        datasets.publish(
            session,
            datasets.get(session, dataset_id),
            number=number,
            digest=f"digest{number}",
            prefix=f"datasets/{dataset_id}/{number}",
            summary={"classes": ["a", "b"]},
        )


def test_a_new_dataset_is_ingesting_and_has_no_version(resources: Resources) -> None:
    dataset_id = create(resources)
    assert dataset_id.startswith("ds_")
    with resources.database.read() as session:
        dataset = datasets.get(session, dataset_id)
        assert (dataset.state, dataset.user_metadata) == ("ingesting", {"a": 1})
        with pytest.raises(DatasetNotReady, match="ingesting"):
            datasets.version(session, dataset_id)


def test_versions_are_found_by_number_or_newest(resources: Resources) -> None:
    dataset_id = create(resources)
    publish(resources, dataset_id, 1)
    publish(resources, dataset_id, 2)
    with resources.database.read() as session:
        assert datasets.get(session, dataset_id).state == "ready"
        assert datasets.version(session, dataset_id).number == 2
        assert datasets.version(session, f"{dataset_id}@1").digest == "digest1"
        assert [row.number for row in datasets.versions(session, dataset_id)] == [2, 1]
        for unknown in (f"{dataset_id}@3", f"{dataset_id}@x", f"{dataset_id}@01", "ds_x", "ds_x@1"):
            with pytest.raises(DatasetNotFound):
                datasets.version(session, unknown)


def test_no_other_version_is_loaded_than_the_one_asked_for(resources: Resources) -> None:
    dataset_id = create(resources)
    for number in (1, 2, 3):
        publish(resources, dataset_id, number)
    for reference, number in ((dataset_id, 3), (f"{dataset_id}@2", 2)):
        loaded: list[int] = []
        with resources.database.read() as session:
            event.listen(
                session,
                "loaded_as_persistent",
                lambda _session, row, seen=loaded: seen.append(getattr(row, "number", 0)),
            )
            datasets.version(session, reference)
        assert loaded == [0, number]  # The dataset, then its version.


def test_pages_follow_the_cursor_in_both_orders(resources: Resources) -> None:
    made = [create(resources, f"set{number}") for number in range(5)]
    publish(resources, made[2], 1)
    with resources.database.read() as session:
        rows, more = datasets.page(session, limit=2, order="asc")
        assert ([row.id for row in rows], more) == (sorted(made)[:2], True)
        rows, more = datasets.page(session, limit=3, after=rows[-1].id, order="asc")
        assert ([row.id for row in rows], more) == (sorted(made)[2:], False)
        rows, more = datasets.page(session, limit=9)
        assert ([row.id for row in rows], more) == (sorted(made, reverse=True), False)
        rows, _ = datasets.page(session, state="ready")
        assert [row.id for row in rows] == [made[2]]


def test_a_dataset_in_use_cannot_be_deleted(resources: Resources) -> None:
    dataset_id = create(resources)
    publish(resources, dataset_id, 1)
    with resources.database.write() as session:
        job_id = jobs.submit(session, kind="finetune", config={}, dataset_id=dataset_id).id
    with resources.database.write() as session, pytest.raises(DatasetInUse, match=job_id):
        datasets.delete(session, dataset_id)
    with resources.database.write() as session:
        claimed = claim_best(session, "worker", 30.0)
        assert claimed is not None
        registry.publish(
            session, name="pets", job_id=job_id, digest="d", prefix="p", files={}, card={}
        )
        leases.succeed(session, job_id, claimed.fence, {})
    with resources.database.write() as session, pytest.raises(DatasetInUse, match="pets@1"):
        datasets.delete(session, dataset_id)


def test_a_model_needs_its_dataset_also_without_its_job(resources: Resources) -> None:
    dataset_id = create(resources)
    publish(resources, dataset_id, 1)
    with resources.database.write() as session:
        card = {"dataset": {"id": dataset_id, "version": 1}}
        job_id = jobs.submit(session, kind="finetune", config={}, dataset_id=dataset_id).id
        registry.publish(
            session, name="pets", job_id=job_id, digest="d", prefix="p", files={}, card=card
        )
        jobs.cancel(session, job_id)
        jobs.delete(session, job_id)
    with resources.database.write() as session, pytest.raises(DatasetInUse, match="pets@1"):
        datasets.delete(session, dataset_id)


def test_deleting_forgets_versions_and_keeps_ended_jobs(resources: Resources) -> None:
    dataset_id = create(resources)
    publish(resources, dataset_id, 1)
    with resources.database.write() as session:
        job_id = jobs.submit(session, kind="finetune", config={}, dataset_id=dataset_id).id
        jobs.cancel(session, job_id)
        datasets.delete(session, dataset_id)
    with resources.database.read() as session:
        assert jobs.get(session, job_id).dataset_id is None
        with pytest.raises(DatasetNotFound):
            datasets.get(session, dataset_id)
        assert datasets.versions(session, dataset_id) == []
