import string
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy.engine import make_url

from core.store.broker import make_celery
from core.store.db import Database
from core.store.object_store import Storage
from core.system.addresses import file_path, file_url
from core.system.settings import Settings

PRINTABLE = [c for c in string.printable if c.isprintable() and c not in "/."]
NAMES = ["c#", "my%20x", "q?x", "a=b&c", 'say "so"', "ü ☃ 猫", "file:", "x@y:z", "{a,b}", "-n"]
NAMES += ["%00", "%2F..%2F", "...", "".join(PRINTABLE)]


@pytest.mark.parametrize("name", PRINTABLE + NAMES)
def test_all_that_is_kept_lies_in_the_folder_whatever_its_name(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "around" / name
    folder.mkdir(parents=True)
    settings = Settings(data_dir=folder)
    database = Database(settings.database_url)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE kept (x INTEGER)")
    database.close()
    Storage(settings.storage_url).put_bytes("a/b", b"x")
    assert [path.name for path in folder.parent.iterdir()] == [name]
    assert (folder / "topwork.db").stat().st_size > 0
    assert (folder / "objects/a/b").read_bytes() == b"x"
    assert file_path(file_url(folder)) == folder


@pytest.mark.parametrize("url", ["file:///c#", "file:///q?x", "file:///q?", "file://host/x"])
def test_an_address_that_means_another_folder_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="%3F for \\? and %23 for #"):
        file_path(url)


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "\x1b[31m", "\x7f", "a\u2028b", "\udcff"])
@pytest.mark.parametrize("field", ["data_dir", "weights_dir", "run_dir"])
def test_what_cannot_be_written_down_is_refused_by_name(
    name: str, field: str, tmp_path: Path
) -> None:
    with pytest.raises(ValidationError, match="cannot be written down") as refused:
        Settings.model_validate({"data_dir": tmp_path, field: tmp_path / name})
    assert name not in str(refused.value)


def test_the_home_of_nobody_is_refused_and_not_a_crash() -> None:
    with pytest.raises(ValidationError, match="home directory"):
        Settings(data_dir=Path("~no-such-user/data"))


@pytest.mark.parametrize("password", [*PRINTABLE, *NAMES, "/", ".", "p@ss/w:rd", "a b+c", "$x${y}"])
def test_a_password_may_have_any_characters(password: str) -> None:
    settings = Settings(
        database_url="postgresql+psycopg://topwork@db/topwork",
        database_password=SecretStr(password),
        broker_url="redis://redis:6379/0",
        broker_password=SecretStr(password),
    )
    database = make_url(settings.database_url)
    assert (database.username, database.password) == ("topwork", password)
    assert (database.host, database.database) == ("db", "topwork")
    with make_celery(settings.broker_url).connection_for_write() as broker:
        assert (broker.password, broker.hostname, broker.port) == (password, "redis", 6379)


@pytest.mark.parametrize("url", ["", "redis://:another@redis:6379/0"])
def test_a_password_without_a_place_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="broker_password") as caught:
        Settings(broker_url=url, broker_password=SecretStr("s3cret"))
    assert "s3cret" not in str(caught.value)
    assert "another" not in str(caught.value)
