"""Export one model: `python -P -m models.export RUN_DIR`; see `core.system.run_dir`."""

import sys
from contextlib import closing, nullcontext
from pathlib import Path
from types import ModuleType

from core.system.run_dir import RunDir, supervise
from models.data.dataset import StagedDataset
from models.export import onnx_file, parity, plain, torch_program
from models.export.forms import Exported
from models.inference import artefact
from models.inference.classifier import Classifier
from models.planning.export_request import ExportRequest, check
from topwork.kinds import ExportFormat, Phase

FORMS: dict[ExportFormat, ModuleType] = {
    ExportFormat.ONNX: onnx_file,
    ExportFormat.TORCH: torch_program,
    ExportFormat.BUNDLE: plain,
}


def export(run: RunDir) -> None:
    """Write the file, ask it and the service about the same images, and publish what agrees."""
    if run.result.is_dir():
        return
    request = ExportRequest.model_validate_json(run.request())
    run.events.phase(Phase.EXPORTING)
    network, card = artefact.load(request.model, card_digest=request.model_sha256)
    check(request.format, card)
    folder = run.begin_result()
    form = FORMS[request.format]
    path: Path = form.write(folder, Exported(request.name, network, card, request.model))
    run.events.phase(Phase.EVALUATING)
    opened = (
        nullcontext(None)
        if request.dataset is None
        else closing(StagedDataset(request.dataset, request.dataset_sha256))
    )
    classifier = Classifier.from_artefact(request.model, request.model_sha256)
    with opened as dataset:
        report = parity.check(run, classifier, form.answers(path), dataset)
        parity.write(folder, report)
    run.publish_result(folder)


if __name__ == "__main__":
    sys.exit(supervise(export, sys.argv[1:]))
