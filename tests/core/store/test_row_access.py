import pytest
from sqlalchemy import func, select, update

from core.domain import datasets, jobs, registry
from core.store.resources import Resources
from core.store.row_access import ADMIN, Caller
from core.store.tables import Job
from tests.app.apiclient import publish_model
from topwork.errors import DatasetInUse, DatasetNotFound, JobNotFound, ModelNotFound, NameTaken

ANNA = Caller("anna", frozenset({"train"}))
BEN = Caller("ben", frozenset({"train"}))


def test_a_session_shows_its_callers_rows_only(resources: Resources) -> None:
    publish_model(resources, "pets", ANNA)
    with resources.database.write(ANNA) as session:
        job = jobs.submit(session, kind="finetune", config={})
        dataset = datasets.create(session, name="pets", upload=None, metadata={})
    assert (job.owner, dataset.owner) == ("anna", "anna")
    with resources.database.write(BEN) as session:
        for look, error in (
            (lambda: jobs.get(session, job.id, lock=True), JobNotFound),
            (lambda: datasets.get(session, dataset.id), DatasetNotFound),
            (lambda: datasets.version(session, f"{dataset.id}@1"), DatasetNotFound),
            (lambda: registry.resolve(session, "pets"), ModelNotFound),
            (lambda: registry.version(session, "pets", 1), ModelNotFound),
        ):
            with pytest.raises(error) as caught:
                look()
            assert "Did you mean" not in str(caught.value.hint)
        for page in (jobs.page, datasets.page, registry.page):
            assert page(session) == ([], False)
        assert session.execute(select(func.count()).select_from(Job)).scalar_one() == 0
        session.execute(update(Job).values(reason="mine now"))
        assert jobs.count(session, Job.state.in_(["queued", "cancelled"])) == 2, (
            "limits count everybody's"
        )
    for caller in (ANNA, ADMIN, None):
        with resources.database.read(caller) as session:
            assert jobs.get(session, job.id).reason is None
            assert registry.resolve(session, "pets").number == 1
            assert len(jobs.page(session)[0]) == 2


def test_a_queue_position_counts_jobs_of_others(resources: Resources) -> None:
    with resources.database.write(ANNA) as session:
        jobs.submit(session, kind="finetune", config={})
    with resources.database.write(BEN) as session:
        mine = jobs.submit(session, kind="finetune", config={})
        assert jobs.queue_position(session, mine) == 1


def test_a_name_belongs_to_who_published_it(resources: Resources) -> None:
    publish_model(resources, "pets", ANNA)
    with resources.database.write(ANNA) as session:
        registry.check_name(session, "pets")
        jobs.submit(session, kind="finetune", config={"name": "soon"})
    with resources.database.read(BEN) as session:
        registry.check_name(session, "mine")
        for name in ("pets", "soon"):
            with pytest.raises(NameTaken):
                registry.check_name(session, name)
    with pytest.raises(NameTaken):
        publish_model(resources, "pets", BEN)
    assert publish_model(resources, "pets", ANNA).number == 2


def test_a_dataset_stays_while_an_admins_job_needs_it(resources: Resources) -> None:
    with resources.database.write(ANNA) as session:
        dataset = datasets.create(session, name="pets", upload=None, metadata={})
    with resources.database.write(ADMIN) as session:
        job = jobs.submit(session, kind="finetune", config={}, dataset_id=dataset.id)
    with resources.database.write(ANNA) as session, pytest.raises(DatasetInUse):
        datasets.delete(session, dataset.id)
    with resources.database.write(ADMIN) as session:
        jobs.cancel(session, job.id)
    with resources.database.write(ANNA) as session:
        datasets.delete(session, dataset.id)
    with resources.database.read() as session:
        assert jobs.get(session, job.id).dataset_id is None
