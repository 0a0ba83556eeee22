"""Who may use the page: the names by which it can be asked for, and the password."""

import argparse
import ipaddress
import os
import re
import socket
from dataclasses import dataclass

from mprnet.errors import UserError

# The environment variable for the password: other users of the machine can see the command line.
PASSWORD_VARIABLE = "MPRNET_AUTH"
OPEN = "none"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# As in the header Host: a name or an address, perhaps with a port.
_NETLOC = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s:/@\[\]]+))(?::\d{1,5})?", re.IGNORECASE)


@dataclass(frozen=True)
class Access:
    """Who may use the page.

    Attributes:
        names: host names and addresses of the page, in lower case.
        proxies: those of ``names`` that belong to a reverse proxy.
        any_address: every IP address counts as one of the page. This is safe: the attack that ``names`` prevent (DNS
            rebinding) needs a name.
        login: ``USER:PASSWORD``, or None: there is no password.
    """

    names: frozenset[str]
    proxies: frozenset[str] = frozenset()
    any_address: bool = False
    login: str | None = None

    def is_own(self, netloc: str) -> bool:
        """Return True if ``netloc``, a host with or without a port, is one of the page's own."""
        name = _host_name(netloc)
        return name in self.names or (self.any_address and _is_address(name))

    def is_own_origin(self, origin: str, hosts: list[str]) -> bool:
        """Return True if an ``Origin`` is that of the page.

        Args:
            hosts: the values of ``Host`` of the same request. A browser sends the page's own origin there, too. Only a
                reverse proxy may replace it.
        """
        scheme, _, netloc = origin.partition("://")
        return scheme in ("http", "https") and (netloc in hosts or _host_name(netloc) in self.proxies)


def choose_access(a: argparse.Namespace, address: str) -> Access:
    """Return who may use a page.

    Args:
        a: the command line.
        address: the IP address that the page is served at.

    Raises:
        UserError: the page is open to the network, and nothing is said about a password; or ``--auth`` is malformed.
    """
    login = os.environ.get(PASSWORD_VARIABLE) if a.auth is None else a.auth
    ip = ipaddress.ip_address(address)
    if login is None and not ip.is_loopback:
        raise UserError(
            f"--host {a.host} lets everybody in the network use the page: set a password with --auth USER:PASSWORD or "
            f"in the environment variable {PASSWORD_VARIABLE}, or serve without one: --auth {OPEN}."
        )
    if login is not None and login != OPEN and not all(login.partition(":")):
        raise UserError(f"--auth, or {PASSWORD_VARIABLE}, takes USER:PASSWORD with both, or {OPEN}.")
    proxies = frozenset(name.lower() for name in a.allow_host)
    names = {*_LOOPBACK, *proxies, a.host.lower(), address}
    if ip.is_unspecified:  # all of this machine's addresses
        machine = socket.gethostname().lower()
        names |= {machine, f"{machine}.local"}
    return Access(frozenset(names), proxies, ip.is_unspecified, None if login == OPEN else login)


def _host_name(netloc: str) -> str:
    """Return the name or the address, in lower case and without the port; empty if there is none."""
    match = _NETLOC.fullmatch(netloc)
    return (match[1] or match[2]).lower() if match else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
