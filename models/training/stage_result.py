"""The result of the head stage for the stage after it, kept so that a resumed run skips it.

`checkpoint/STAGE/` holds the checkpoints of a stage, `checkpoint/head.safetensors` the finished
head together with the decision how to go on. That decision may follow from measured times, so it
is written in one file with the weights it belongs to: made once, whatever happens afterwards.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import nn

from core.system.run_dir import RunDir
from models.networks.loading import load_tensors
from models.planning.plan import Plan
from models.training import checkpoint, resume
from models.training.resume import Key, Progress
from topwork.errors import IntegrityError, WeightsMismatch

FILE = "head.safetensors"


@dataclass(frozen=True)
class StageResult:
    """A finished head and what follows.

    `decay` is the weight decay with its reason; `epochs` of the next stage, 0 if it is left out,
    and `why`.
    """

    progress: Progress
    decay: tuple[float | None, str]
    epochs: int
    why: str

    def continued(self, asked: Plan) -> Plan:
        """Return the plan as asked for with what was found out since."""
        plan = asked.revised("weight_decay", *self.decay)
        then = plan.then
        if then is None or not self.why:
            return plan
        if not self.epochs:
            return replace(plan.revised("strategy", "head", self.why), then=None)
        warmup = then.warmup_epochs * self.epochs / then.epochs
        then = replace(then, warmup_epochs=warmup).revised("epochs", self.epochs, self.why)
        return replace(plan, then=then)


def save(folder: Path, key: Key, result: StageResult, layer: nn.Module) -> None:
    """Write the head's layer and the decision."""
    checkpoint.write(folder / FILE, layer.state_dict(), {"key": key, **asdict(result)})


def load(run: RunDir, folder: Path, key: Key, layer: nn.Module) -> StageResult | None:
    """Put the head of an earlier attempt into the layer; None if there is no such head."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        tensors, state = checkpoint.read(path)
        then = state.pop("key")
        fits = then["spec"] == key["spec"]
        if fits:
            load_tensors(layer, tensors)
    except (IntegrityError, WeightsMismatch):
        fits = False
    if not fits:
        path.unlink()
        return None
    progress = Progress(**state.pop("progress"))
    resume.note_differences(run, progress, then["machine"], key["machine"])
    return StageResult(progress, tuple(state.pop("decay")), **state)
