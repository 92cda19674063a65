"""Upload, fine-tune and predict with the client of openapi-python-client: URL ARCHIVE IMAGE."""

import io
import sys
import time
from pathlib import Path

from client import Client
from client.api.datasets import create_dataset
from client.api.fine_tune import finetune
from client.api.jobs import get_job
from client.api.predict import predict
from client.models import (
    CreateDatasetFilesBody,
    FinetuneRequest,
    Hyperparameters,
    Job,
    PredictFilesBody,
    Prediction,
)
from client.types import File

url, archive, image = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
service = Client(base_url=url, timeout=60)


def sent(path: Path) -> File:
    return File(payload=io.BytesIO(path.read_bytes()), file_name=path.name)


def ended(job: object) -> Job:
    while isinstance(job, Job) and job.state not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.2)
        job = get_job.sync(job.id, client=service)
    assert isinstance(job, Job), job
    assert job.state == "succeeded", job
    return job


read = ended(create_dataset.sync(client=service, body=CreateDatasetFilesBody(file=[sent(archive)])))
order = FinetuneRequest(
    architecture="lenet",
    dataset=read.dataset,
    name="generated-python",
    hyperparameters=Hyperparameters(epochs=1),
)
trained = ended(finetune.sync(client=service, body=order))
asked = PredictFilesBody(file=[sent(image)], model=trained.model)
answer = predict.sync(client=service, body=asked)
assert isinstance(answer, Prediction), answer
sys.stdout.write(answer.results[0].label)
