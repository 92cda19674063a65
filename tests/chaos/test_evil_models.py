"""T27: models that lie, in a running service; whoever made them could write storage and rows."""

import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.domain import registry
from core.store.resources import open_resources
from core.system.settings import Settings
from models.inference import artefact
from models.planning.catalogue import HEADER_LIMIT
from tests.app.trained import put_model, store_model
from tests.chaos.conftest import Tell
from tests.e2e.conftest import Service, png, running, zip_of

pytestmark = pytest.mark.chaos
Spoil = Callable[[Path, Path], None]


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.canary),)


def header(text: bytes, length: int | None = None) -> bytes:
    return (len(text) if length is None else length).to_bytes(8, "little") + text


def tensors(**changes: torch.Tensor) -> Spoil:
    return lambda weights, _: save_file({**load_file(weights), **changes}, weights)


def content(data: bytes) -> Spoil:
    return lambda weights, _: (weights.write_bytes(data), None)[1]


def outside(weights: Path, _: Path) -> None:
    """Let the header point behind the end of the file."""
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])


EVIL: dict[str, Spoil] = {
    "bare pickle": lambda weights, canary: (weights.write_bytes(pickle.dumps(Bomb(canary))), None)[
        1
    ],
    "zipped pickle": lambda weights, canary: torch.save({"a": Bomb(canary)}, weights),
    "header beyond the limit": content(header(b"{}", HEADER_LIMIT + 1)),
    "header of an exabyte": content(header(b"{}", 1 << 60)),
    "header too deep": content(header(b"[" * 100_000)),
    "tensors beyond the end": outside,
    "one output too many": tensors(**{"classifier.2.bias": torch.zeros(4)}),
    "a tensor too many": tensors(more=torch.zeros(4)),
    "not a number": tensors(**{"classifier.2.bias": torch.full((3,), torch.nan)}),
    "infinite": tensors(**{"classifier.2.bias": torch.full((3,), torch.inf)}),
}
HEAD = {"layers": ["classifier.2"], "auxiliary": []}
CARDS: dict[str, dict[str, Any]] = {
    "a class more": {"classes": ["ant", "bee", "cicada", "drone"]},
    "no such network": {"architecture": "../../lenet"},
    "an image of a terabyte": {"preprocess": {"resize": 10**6, "crop": 10**6}},
    "a calibration of words": {"calibration": {"temperature": "warm"}},
    "another head": {"head": {"layers": ["features.0"]}},
    "a head elsewhere": {"head": {"layers": ["../head"]}},
    "no head": {"head": {"layers": []}},
}
ONLY_SERVED = {"a calibration of words"}  # Training does not read it.


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("evil") / "data", spoiled=("evil-", "good@")) as started:
        yield started


def publish(service: Service, folder: Path, name: str, *, vouched: bool = True) -> None:
    """Publish a folder as a model; unless vouched for, its row tells of other bytes."""
    with open_resources(Settings(data_dir=service.data_dir)) as resources:
        order = put_model(resources.storage, folder, f"models/{name}/1")
        if not vouched:
            order["files"] = {
                file: {**facts, "sha256": "0" * 64} for file, facts in order["files"].items()
            }
            order["digest"] = "0" * 64
        with resources.database.write() as session:
            registry.publish(
                session,
                name=name,
                job_id=None,
                digest=order["digest"],
                prefix=order["prefix"],
                files=order["files"],
                card=json.loads((folder / artefact.CARD).read_text()),
            )


def made(service: Service, folder: Path) -> Path:
    """A model's folder as a trainer leaves it, nothing wrong with it."""
    with open_resources(Settings(data_dir=service.data_dir)) as resources:
        store_model(resources.storage, folder, head=HEAD)
    return folder


def edit(folder: Path, **changes: Any) -> None:
    """Change the card, which vouches for the weights as they are."""
    card = json.loads((folder / artefact.CARD).read_text())
    for name, change in changes.items():
        card[name] = {**(card.get(name) or {}), **change} if isinstance(change, dict) else change
    card["files"] = artefact.manifest(folder, artefact.WEIGHTS)
    (folder / artefact.CARD).write_text(json.dumps(card))


def test_t27_evil_models_are_refused(service: Service, tmp_path: Path, tell: Tell) -> None:
    canary = tmp_path / "canary"
    names = []
    spoils: list[tuple[str, Any]] = [*EVIL.items(), *CARDS.items(), ("not vouched for", {})]
    for number, (what, spoil) in enumerate(spoils):
        folder, name = made(service, tmp_path / str(number)), f"evil-{number}"
        if callable(spoil):
            spoil(folder / artefact.WEIGHTS, canary)
            edit(folder)
        else:
            edit(folder, **spoil)
        publish(service, folder, name, vouched=what != "not vouched for")
        names.append((what, name))
    publish(service, made(service, tmp_path / "good"), "good")
    codes = {}
    for what, name in names:
        answer = service.predict(("a.png", png(1, 7)), model=name)
        assert answer.status_code < 500, (what, answer.text)
        codes[what] = answer.json().get("code", "fine")
    assert set(codes.values()) == {"integrity", "architecture_unknown"}, codes
    assert service.predict(("a.png", png(1, 7)), model="good").status_code == 200
    archive = zip_of({f"{kind}/{n}.png": png(kind == "b", n) for kind in "ab" for n in range(10)})
    jobs = {
        what: service.finetune(archive, architecture="lenet", weights=f"model:{name}")
        for what, name in [*names, ("good", "good")]
        if what != "no such network"
    }
    ends = {what: service.ended(job, 240) for what, job in jobs.items()}
    errors = {what: (end["error"] or {}).get("code", "fine") for what, end in ends.items()}
    tell(f"T27 {len(names)} models, predictions {codes}, trainings {errors}")
    assert {what for what, code in errors.items() if code == "fine"} == {"good", *ONLY_SERVED}
    assert set(errors.values()) == {"fine", "integrity"}
    assert not canary.exists()
    pickle.loads(pickle.dumps(Bomb(canary)))  # noqa: S301 - to show that it would have gone off.
    assert canary.exists()
