"""Addresses to listen on: which are loopback, and that all others require an admin key."""

import ipaddress

from core.system.settings import Settings
from topwork.errors import KeyRequired


def check_bind(host: str, settings: Settings) -> None:
    """Refuse to listen where other machines can reach a service without a key.

    Raises:
        KeyRequired: The host is not loopback and no admin key is set.
    """
    if not settings.admin_key.get_secret_value() and not is_loopback(host):
        raise KeyRequired(f"listening on {host} without a key would serve anyone")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host name or address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
