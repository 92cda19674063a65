import socket

import pytest

from core.system.public_address import is_public, resolve
from topwork.errors import AddressRefused, AddressUnknown


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "0.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1",
     "169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::",
     "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
     "64:ff9b:1::1", "fec0::2", "::7f00:1", "::ffff:0:7f00:1", "5f00::1",
     "2002:7f00:1::", "2001:0:7f00:1::"],
)  # fmt: skip
def test_what_is_not_of_the_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8"]
)
def test_what_is(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f.1", "0177.0.0.1"])
def test_this_machine_is_refused_however_it_is_written(host: str) -> None:
    with pytest.raises(AddressRefused):
        resolve(host, 80, private=False)


def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, 1, 6, "", (one, 80)) for one in ("8.8.8.8", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with pytest.raises(AddressRefused):
        resolve("example.org", 80, private=False)
    assert len(resolve("example.org", 80, private=True)) == 2


@pytest.mark.parametrize("host", ["", "a" * 64 + ".example", "nowhere.invalid"])
def test_a_name_without_an_address(host: str) -> None:
    with pytest.raises((AddressUnknown, AddressRefused)):
        resolve(host, 80, private=False)
