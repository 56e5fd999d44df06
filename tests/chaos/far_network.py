"""A network of its own for a Ray node, on a link that can be cut in silence."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWNET = 0x40000000
# A bucket that no packet fits into: neither end is told that its packets are dropped.
_NOTHING_PASSES = ("root", "tbf", "rate", "8bit", "burst", "1", "latency", "1ms")


@dataclass(frozen=True, slots=True)
class FarNetwork:
    """A network namespace with the address `address`; `link` is this side's end of its link."""

    name: str
    link: str
    address: str

    def cut(self) -> None:
        """From now on nothing gets through, in either direction."""
        _run("tc", "qdisc", "add", "dev", self.link, *_NOTHING_PASSES)
        _run("tc", "-n", self.name, "qdisc", "add", "dev", "eth0", *_NOTHING_PASSES)

    def mend(self) -> None:
        _run("tc", "qdisc", "del", "dev", self.link, "root")
        _run("tc", "-n", self.name, "qdisc", "del", "dev", "eth0", "root")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """What this thread starts meanwhile is in the network."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _enter(Path("/run/netns") / self.name)
            try:
                yield
            finally:
                _enter(here)
        finally:
            os.close(here)


def _enter(namespace: Path | int) -> None:
    descriptor = namespace if isinstance(namespace, int) else os.open(namespace, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "the network can't be entered")
    finally:
        if descriptor != namespace:
            os.close(descriptor)


@contextmanager
def far_network() -> Iterator[FarNetwork | None]:
    """A network of its own while the context lasts; None where this process may not make one."""
    subnet = f"10.213.{os.getpid() % 256}"
    name = f"sfray-{os.getpid()}"
    network = FarNetwork(name, f"sf{os.getpid()}", f"{subnet}.2")
    try:
        _run("ip", "netns", "add", name)
        link = ("ip", "link", "add", network.link, "type", "veth", "peer", "name", "eth0")
        _run(*link, "netns", name)
        _run("ip", "addr", "add", f"{subnet}.1/30", "dev", network.link)
        _run("ip", "link", "set", network.link, "up")
        _run("ip", "-n", name, "addr", "add", f"{network.address}/30", "dev", "eth0")
        _run("ip", "-n", name, "link", "set", "lo", "up")
        _run("ip", "-n", name, "link", "set", "eth0", "up")
        _run("ip", "-n", name, "route", "add", "default", "via", f"{subnet}.1")
        network.cut()
        network.mend()
    except (OSError, subprocess.CalledProcessError):
        _remove(name)
        yield None
        return
    try:
        yield network
    finally:
        _remove(name)


def _remove(name: str) -> None:
    """The link goes with the namespace."""
    with suppress(OSError, subprocess.CalledProcessError):
        _run("ip", "netns", "del", name)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
