from pathlib import Path

import pytest
from pydantic import ValidationError

from core.system.settings import Settings


def test_places_follow_the_data_folder(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path}/topwork.db"
    assert settings.storage_url == f"file://{tmp_path}/objects"
    assert settings.weights_dir == tmp_path / "weights"
    assert settings.predictor_socket == tmp_path / "run" / "predictor.sock"


def test_the_environment_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TOPWORK_DATABASE_URL", "postgresql+psycopg://db/topwork")
    monkeypatch.setenv("TOPWORK_WEIGHTS_DIR", str(tmp_path / "w"))
    settings = Settings()
    assert settings.database_url == "postgresql+psycopg://db/topwork"
    assert settings.weights_dir == tmp_path / "w"


@pytest.mark.parametrize(
    "values",
    [{"lease_seconds": 1, "heartbeat_seconds": 0.5}, {"predict_batch": 0}, {"no_such_knob": 1}],
)
def test_values_that_cannot_work_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(values)


def test_settings_are_frozen(settings: Settings) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings.offline = False


def test_the_key_is_not_printed() -> None:
    assert "s3cret" not in repr(Settings(admin_key="s3cret-of-20-letters"))


def test_a_key_that_can_be_guessed_is_refused_and_told_how_to_be_made() -> None:
    with pytest.raises(
        ValidationError, match="fewer than 20 characters; make one: openssl"
    ) as told:
        Settings(admin_key="s3cret-of-19-letter")
    assert "s3cret" not in str(told.value)
