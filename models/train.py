"""Train one model: `python -P -m models.train RUN_DIR`; see `core.system.run_dir`."""

import sys
from contextlib import closing

from core.system.run_dir import RunDir, supervise
from models.compute.execution import keep_memory
from models.data.dataset import StagedDataset
from models.planning.request import TrainRequest
from models.training.session import Session


def train(run: RunDir) -> None:
    """Do the whole run; whatever an earlier attempt finished is not done again."""
    if run.result.is_dir():
        return
    request = TrainRequest.model_validate_json(run.request())
    run.events.phase("preparing")
    with closing(StagedDataset(request.dataset, request.dataset_sha256)) as dataset:
        with Session.open(run, request, dataset) as session:
            trained = session.fit(session.plan)
        if session.group.rank == 0:  # The others have trained along, and their work is done.
            evaluation = session.evaluate(trained)
            session.write(trained, evaluation)


if __name__ == "__main__":
    keep_memory()
    sys.exit(supervise(train, sys.argv[1:], resumable=True))
