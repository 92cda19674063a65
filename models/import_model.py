"""Take in a model from elsewhere: `python -P -m models.import_model RUN_DIR`; see `run_dir`.

The bundle says of itself what it likes, so its card is not published. A new one is written with
what an answer depends on, each part of which was checked, and with where the weights came from.
Scores stay behind: nobody here has measured them.
"""

import shutil
import sys
from pathlib import Path
from typing import Any, Optional

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from core.system.machine import ran_out_of_memory
from core.system.run_dir import RunDir, supervise
from models.evaluation import engine_choice
from models.evaluation.calibrate import Calibration
from models.inference import artefact
from models.inference.network import Network
from models.planning.import_request import ImportRequest
from models.planning.rejection import NO_REFERENCES
from models.weights import bundle
from topwork.errors import BundleInvalid, IntegrityError
from topwork.kinds import Phase

SOURCE = "import"  # What the lineage calls it.
LARGEST_CROP = 1024  # As training has it.


class _Calibration(BaseModel):
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    ceiling: float = Field(1.0, gt=0, le=1)
    ece_before: float | None = Field(None, ge=0, le=1)
    ece_after: float | None = Field(None, ge=0, le=1)
    images: int | None = Field(None, ge=0)


class _Lineage(BaseModel):
    weights: str = Field(pattern=r"^[!-~]{1,200}$")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    of: Optional["_Lineage"] = None


class _Stated(BaseModel):
    """What is kept of a card besides what `Network` reads."""

    calibration: _Calibration | None = None
    lineage: _Lineage | None = None


def import_model(run: RunDir) -> None:
    """Unpack, load, ask once, and write the model anew."""
    if run.result.is_dir():
        return
    request = ImportRequest.model_validate_json(run.request())
    run.events.phase(Phase.PREPARING)
    source = run.path / "bundle"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    bundle.unpack(request.bundle, source)
    network, stated = _read(source)
    calibration = stated.calibration or _Calibration()
    _ask(network, calibration)
    folder = run.begin_result()
    artefact.write(
        folder,
        network.model,
        _card(network, stated),
        lambda: {"engine": _engine(folder, network, calibration)},
    )
    shutil.rmtree(source)
    run.publish_result(folder)


def _read(source: Path) -> tuple[Network, _Stated]:
    try:
        network = Network.from_artefact(source, SOURCE, auxiliary=True)
        if not all(map(str.isprintable, network.classes)):
            raise BundleInvalid("a class name contains characters that cannot be shown")
        return network, _Stated.model_validate(artefact.read_card(source))
    except IntegrityError as error:
        raise BundleInvalid(error.message) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleInvalid(f"{artefact.CARD}: {where}: {first['msg']}") from error


def _ask(network: Network, stated: _Calibration) -> None:
    """Refuse what cannot answer the images that its card asks for, or not finitely."""
    crop = network.preprocess.crop
    if crop > LARGEST_CROP:
        raise BundleInvalid(f"its images of {crop} pixels are larger than {LARGEST_CROP}")
    grey = np.full((3, crop, crop), 128, dtype=np.uint8)
    try:
        classifier = network.classifier(temperature=stated.temperature, ceiling=stated.ceiling)
        classifier.rank(classifier.forward([grey])[0], 1)
    except IntegrityError as error:
        raise BundleInvalid(error.message) from error
    except RuntimeError as error:
        if ran_out_of_memory(error):
            raise
        message = f"{network.architecture.name} cannot compute images of {crop} pixels"
        raise BundleInvalid(message) from error


def _engine(folder: Path, network: Network, stated: _Calibration) -> dict[str, Any]:
    """Choose what serves it; no image is known, so made ones are compared alone."""
    calibration = Calibration(temperature=stated.temperature, ceiling=stated.ceiling)
    return engine_choice.choose(folder, network, calibration, {}, lambda _: {})


def _card(network: Network, stated: _Stated) -> dict[str, Any]:
    return {
        "architecture": network.architecture.name,
        "classes": network.classes,
        "head": {"layers": [network.heads.main], "auxiliary": list(network.heads.auxiliary)},
        "preprocess": network.preprocess.to_dict(),
        "dataset": None,
        "metrics": {},
        "rejection": {"reason": NO_REFERENCES},
        **stated.model_dump(include={"calibration"}),
        "lineage": {**network.lineage, "of": stated.lineage and stated.lineage.model_dump()},
    }


if __name__ == "__main__":
    sys.exit(supervise(import_model, sys.argv[1:]))
