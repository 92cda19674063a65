"""A small typed client of the HTTP API; the command line is its first user.

from topwork.client import Topwork

with Topwork("http://127.0.0.1:8000") as topwork:
    job = topwork.finetune("flowers/", architecture="resnet18", name="flowers").wait()
    print(topwork.predict(["rose.jpg"], model="flowers")[0].label)
"""

from topwork.client.errors import JobFailed, ServiceError, Unreachable
from topwork.client.records import Dataset, Event, Job, Model, Prediction, Result
from topwork.client.service import Topwork

__all__ = [
    "Dataset",
    "Event",
    "Job",
    "JobFailed",
    "Model",
    "Prediction",
    "Result",
    "ServiceError",
    "Topwork",
    "Unreachable",
]
