"""The labs of this machine: creating, removing and listing them."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from attrs import evolve

from ovnkit.testing.daemons import locate
from ovnkit_lab import control_plane, layout, namespaces
from ovnkit_lab.interrupts import Interrupted, undisturbed
from ovnkit_lab.lab import Lab, Say
from ovnkit_lab.layout import BASE, Files, LabError, LabSpec


@contextmanager
def locked(name: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lab's lock: one command changes a lab at a time. The lock file is removed with the lab.

    Without `wait`, the value is False when somebody else holds the lock.
    """
    layout.check_name(name)
    while True:
        BASE.mkdir(parents=True, exist_ok=True)
        path = BASE / f"{name}.lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            yield False
            return
        # Its last holder may have removed the file: then this lock is on a file that nobody else opens.
        if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
            break
        os.close(descriptor)
    try:
        yield True
    finally:
        if not Files(name).base.exists():
            path.unlink(missing_ok=True)
            with suppress(OSError):
                BASE.rmdir()
        os.close(descriptor)


def create(
    name: str, nodes: int, zones: str, ip_family: str, config: str, ovn: str, say: Say, *, keep: bool = False
) -> Lab:
    """Create a lab and bring it up; one that fails is removed again unless `keep`. Raises OvnkitError."""
    install = locate(ovn, say)
    with locked(name):
        if Files(name).ready.exists():
            raise LabError(f"lab {name} is up already; `ovnkit lab down --name {name}` removes it")
        if Files(name).base.exists() or namespaces.namespaces(layout.netns_prefix(name)):
            say(f"removing what is left of an earlier lab {name}")
            _remove(name)
        spec = LabSpec(
            name, tuple(f"node{number}" for number in range(1, nodes + 1)), zones, ip_family, str(install.root),
            config=config, kubernetes=control_plane.find(),
        )  # fmt: skip
        lab = Lab(_numbered(spec), say)
        try:
            lab.up()
        except BaseException as error:
            stopped = isinstance(error, Interrupted)
            if not keep:
                say(f"{'interrupted' if stopped else 'failed'}; removing lab {name}")
                _remove(name)
            if isinstance(error, Interrupted):
                error.text = f"interrupted; lab {name} {'stays as it is' if keep else 'was removed'}"
            raise
        return lab


def _numbered(spec: LabSpec) -> LabSpec:
    """The lab with an index that no other has; writing its file reserves it."""
    descriptor = os.open(BASE, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        taken = []
        for name in layout.existing():
            try:
                taken.append(layout.load(name).index)
            except LabError:
                continue
        links = [index for index in range(layout.MAX_LABS) if namespaces.link_exists(f"ovnlab{index}")]
        numbered = evolve(spec, index=layout.free_index([*taken, *links]))
        numbered.save()
    finally:
        os.close(descriptor)
    return numbered


def remove(name: str) -> bool:
    """Remove a lab, complete or not; whether there was one."""
    with locked(name):
        found = Files(name).base.exists() or bool(namespaces.namespaces(layout.netns_prefix(name)))
        _remove(name)
    return found


def _remove(name: str) -> None:
    with undisturbed():
        _remove_all(name)


def _remove_all(name: str) -> None:
    link = ""
    with suppress(LabError):
        link = layout.load(name).api_link_name
    found = namespaces.namespaces(layout.netns_prefix(name))
    namespaces.kill_all(found)
    # The kubelet may have been adding another one.
    found = namespaces.namespaces(layout.netns_prefix(name))
    namespaces.kill_all(found)
    if link and namespaces.link_exists(link):
        namespaces.run(["ip", "link", "del", link])
    for netns in found:
        namespaces.delete_namespace(netns)
    shutil.rmtree(Files(name).base, ignore_errors=True)


def names() -> list[str]:
    """Names of all labs that have a directory or a namespace, incomplete ones included."""
    found = set(layout.existing())
    for netns in namespaces.namespaces("ovnlab-"):
        found.add(netns.removeprefix("ovnlab-").partition(".")[0])
    return sorted(found)
