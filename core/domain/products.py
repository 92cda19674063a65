"""Where the product of a job is stored, and the rows that refer to it: one entry for each.

Every attempt writes under a prefix of its own, which ends with its fence: what another attempt has
left there is garbage, even while the job goes on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from core.store.tables import DatasetVersion, Job, ModelExport, ModelVersion
from topwork.kinds import Product

FIRST = 1  # Number of the version of a dataset that an ingestion makes.


@dataclass(frozen=True)
class Place:
    """The objects of one product.

    Args:
        folder: First part of their keys.
        prefix: Where an attempt of this job writes, without a slash at the end.
        version: Rows whose `prefix` names what was published; None where it belongs to the job
            itself and goes with it.
    """

    folder: str
    prefix: Callable[[Job], str]
    version: type[DatasetVersion | ModelExport | ModelVersion] | None


PLACES: Mapping[Product, Place] = {
    Product.DATASET_VERSION: Place(
        "datasets", lambda job: f"datasets/{job.dataset_id}/{FIRST}/{job.fence}", DatasetVersion
    ),
    Product.MODEL_VERSION: Place(
        "models", lambda job: f"models/{job.id}/{job.fence}", ModelVersion
    ),
    Product.EXPORT: Place("exports", lambda job: f"exports/{job.id}/{job.fence}", ModelExport),
    Product.PREDICTIONS: Place(
        "predictions", lambda job: f"predictions/{job.id}/{job.fence}", None
    ),
}
