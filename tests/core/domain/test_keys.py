import pytest
from sqlalchemy import select, update

from core.domain import keys
from core.store.resources import Resources
from core.store.tables import ApiKey
from topwork.errors import InvalidField, KeyNotFound


def make(resources: Resources, **options: object) -> tuple[str, str]:
    """Return id and secret form of a new key."""
    with resources.database.write() as session:
        given = {"owner": "anna", "scopes": ["train"], **options}
        row, key = keys.create(session, **given)  # type: ignore[arg-type] # As the test says.
        return row.id, key


def known(resources: Resources, key: str) -> keys.Known | None:
    with resources.database.read() as session:
        return keys.check(session, key)


def change(resources: Resources, **values: object) -> None:
    with resources.database.write() as session:
        session.execute(update(ApiKey).values(**values))


def test_a_key_is_known_by_its_hash_only(resources: Resources) -> None:
    identity, key = make(resources, name="laptop")
    found = known(resources, key)
    assert found is not None
    assert (found.id, found.caller.owner) == (identity, "anna")
    assert found.caller.may("read")
    assert found.caller.may("predict")
    assert not found.caller.may("admin")
    with resources.database.read() as session:
        row = session.scalars(select(ApiKey)).one()
    secret = key.rpartition("_")[2]
    assert len(bytes.fromhex(secret)) == 32
    assert secret not in str(vars(row))


@pytest.mark.parametrize("spoil", [
    lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"),
    lambda key: key + "0",
    lambda key: key.upper(),
    lambda key: key.rpartition("_")[0],
    lambda key: key[:2],
])  # fmt: skip
def test_what_is_not_quite_a_key_is_none(resources: Resources, spoil: object) -> None:
    _, key = make(resources)
    assert known(resources, spoil(key)) is None  # type: ignore[operator] # A function of the list.


def test_a_key_ends_by_time_or_by_hand(resources: Resources) -> None:
    identity, key = make(resources, expires_in_days=1.0)
    assert known(resources, key) is not None
    change(resources, expires_at=1.0)
    assert known(resources, key) is None
    change(resources, expires_at=None)
    for _ in range(2):
        with resources.database.write() as session:
            keys.revoke(session, identity)
        assert known(resources, key) is None
    with resources.database.write() as session, pytest.raises(KeyNotFound):
        keys.revoke(session, "key_nowhere")


def test_its_use_is_written_once_a_minute(resources: Resources) -> None:
    identity, key = make(resources)
    first = known(resources, key)
    assert first is not None
    assert first.use_is_old
    with resources.database.write() as session:
        keys.note_use(session, identity)
    again = known(resources, key)
    assert again is not None
    assert not again.use_is_old


def test_the_first_key_can_make_others(resources: Resources) -> None:
    with resources.database.read() as session, pytest.raises(InvalidField):
        keys.check_first(session, ["train"])
    make(resources, scopes=["admin"])
    with resources.database.read() as session:
        keys.check_first(session, ["train"])
        assert keys.any_exists(session)
