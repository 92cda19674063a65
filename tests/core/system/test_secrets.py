from pathlib import Path

import pytest
from pydantic import ValidationError

from core.system.secrets import is_placeholder, redact
from core.system.settings import Settings, read_settings

KEY = "tw_" + "0" * 22 + "_" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"key {KEY} refused", "abab"),
        ("authorization: Bearer s3cr3t-value", "s3cr3t"),
        ("{'authorization': 'Basic dXNlcjpwdw=='}", "dXNlcjpwdw"),
        ("redis://:hunter2@host/0 does not answer", "hunter2"),
        ("postgresql+psycopg://me:p%40ss@db:5432/topwork", "p%40ss"),
    ],
)
def test_secrets_leave_gaps(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in redact(text)
    assert "***" in redact(text)


def test_other_text_stays() -> None:
    for text in ("http://127.0.0.1:8000/jobs", "key_01k9 denied", "tw_short", "a@b.example: x"):
        assert redact(text) == text


def test_placeholders() -> None:
    for text in ("changeme", "CHANGE-ME", "<key>", "xxxx", "secret", "my-secret", "your-key-here"):
        assert is_placeholder(text), text
    for text in ("", "s3cret", "9f86d081884c7d659a2feaa0c55ad015", "a-long-and-random-key"):
        assert not is_placeholder(text), text


def test_secrets_come_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"ADMIN_KEY": "long-and-very-random\n", "DATABASE_URL": "postgresql://u:p@db/x\n"}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        monkeypatch.setenv(f"TOPWORK_{name}_FILE", str(tmp_path / name))
    settings = Settings()
    assert settings.admin_key.get_secret_value() == "long-and-very-random"
    assert settings.database_url == "postgresql://u:p@db/x"
    monkeypatch.setenv("TOPWORK_ADMIN_KEY", "another-one")
    with pytest.raises(ValidationError, match="both set") as caught:
        Settings()
    assert "another-one" not in str(caught.value)
    monkeypatch.delenv("TOPWORK_ADMIN_KEY")
    (tmp_path / "ADMIN_KEY").unlink()
    with pytest.raises(ValidationError, match="cannot be read"):
        Settings()


def test_passwords_come_from_files_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text(" p@ss $w:rd \n")
    monkeypatch.setenv("TOPWORK_BROKER_URL", "redis://redis/0")
    monkeypatch.setenv("TOPWORK_BROKER_PASSWORD_FILE", str(tmp_path / "password"))
    assert Settings().broker_url == "redis://:%20p%40ss%20%24w%3Ard%20@redis/0"


def test_a_process_with_a_wrong_setting_ends_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_MAX_ATTEMPTS", "none")
    monkeypatch.setenv("TOPWORK_PREDICT_QUEUE", "0")
    with pytest.raises(SystemExit) as caught:
        read_settings()
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["max_attempts", "predict_queue"]
