"""Where the programs of OVN and Open vSwitch are: the host's own, or another root directory.

Programs of a root run through that root's own dynamic loader, so they use its libraries and still see the
host's files, processes and namespaces: nothing has to be mounted, and nothing can be left mounted.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from attrs import frozen

from ovnkit.api.errors import OvnkitError

Progress = Callable[[str], None]

CACHE_VARIABLE = "OVNKIT_CACHE"
DEFAULT_CACHE = Path("/var/cache/ovnkit")
ROOT_NAME = "debian-13"
ROOT_SUITE = "trixie"
ROOT_PACKAGES = ("openvswitch-switch", "ovn-central", "ovn-host")
_END_SECONDS = 10.0
RECENT = (24, 3)
"""OVN release from which ACL tiers, `pass` and sampling are all there; the host's own is then good enough."""

_SCHEMAS = {"nb": ("ovn", "ovn-nb"), "sb": ("ovn", "ovn-sb"), "ovs": ("openvswitch", "vswitch")}
_PROGRAM_DIRS = ("usr/sbin", "usr/bin", "sbin", "bin", "usr/local/sbin", "usr/local/bin")
_TOOLS = (
    "ovn-appctl", "ovn-nbctl", "ovn-sbctl", "ovn-trace", "ovn-controller", "ovn-northd", "ovs-appctl", "ovs-dpctl",
    "ovs-ofctl", "ovs-vsctl", "ovs-vswitchd", "ovsdb-client", "ovsdb-server", "ovsdb-tool",
)  # fmt: skip


class InstallError(OvnkitError):
    """OVN or Open vSwitch is missing or unusable; the text says what and where."""


@frozen
class OvnInstall:
    """Programs and schemas of OVN and Open vSwitch below `root` (`/` is the host's own)."""

    root: Path = Path("/")

    @property
    def on_host(self) -> bool:
        """Whether these are the host's own programs."""
        return self.root == Path("/")

    def program(self, name: str) -> Path:
        """Path of a program's file; raises InstallError when it isn't there."""
        for directory in _PROGRAM_DIRS:
            path = _follow(self.root, self.root / directory / name)
            if path.is_file():
                return path
        raise InstallError(f"{name}: not found in {self.root}")

    def command(self, name: str, *arguments: str) -> list[str]:
        """The argument vector that runs a program."""
        path = str(self.program(name))
        if self.on_host:
            return [path, *arguments]
        libraries = ":".join(str(directory) for directory in _library_dirs(self.root))
        return [str(_loader(self.root)), "--library-path", libraries, path, *arguments]

    def schema(self, db: str) -> Path:
        """Schema file of `nb`, `sb` or `ovs`; raises InstallError when it isn't there."""
        package, name = _SCHEMAS[db]
        path = self.root / "usr/share" / package / f"{name}.ovsschema"
        if not path.is_file():
            raise InstallError(f"{path}: no such schema")
        return path

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables the programs need beside their run directories."""
        share = self.root / "usr/share"
        return {"OVS_PKGDATADIR": str(share / "openvswitch"), "OVN_PKGDATADIR": str(share / "ovn")}

    @property
    def ovn_version(self) -> tuple[int, ...]:
        """Release of OVN, e.g. (25, 3, 0)."""
        return _version(self, "ovn-controller")

    @property
    def ovs_version(self) -> tuple[int, ...]:
        """Release of Open vSwitch, e.g. (3, 5, 0)."""
        return _version(self, "ovs-vswitchd")

    def run(self, name: str, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 30) -> str:
        """Run a program to its end and return what it printed; raises InstallError with its last words."""
        result = subprocess.run(
            self.command(name, *arguments),
            env={**os.environ, **self.environment, **(env or {})},
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        if result.returncode:
            words = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()[-1]
            raise InstallError(f"{name} {' '.join(arguments)[:120]}: exit code {result.returncode}: {words}")
        return result.stdout

    def write_wrappers(self, directory: Path) -> None:
        """Put a script for each tool into `directory`, to come first in PATH."""
        directory.mkdir(parents=True, exist_ok=True)
        for name in _TOOLS:
            words = " ".join(f"'{word}'" for word in self.command(name))
            variables = " ".join(f"{key}='{value}'" for key, value in self.environment.items())
            script = directory / name
            script.write_text(f'#!/bin/sh\nexec env {variables} {words} "$@"\n')
            script.chmod(0o755)


def locate(choice: str = "", progress: Progress = lambda _text: None) -> OvnInstall:
    """The installation to use.

    `choice` is `host`, the path of a root directory, or empty: the host's own when it is recent enough, else
    the cached Debian root, which is made when it is missing (about 100 s, 350 MB). Raises InstallError.
    """
    if choice == "host":
        return _checked(OvnInstall())
    if choice:
        root = Path(choice)
        if not root.is_dir():
            raise InstallError(f"--ovn {choice}: no such directory")
        return _checked(OvnInstall(root.resolve()))
    try:
        host = _checked(OvnInstall())
        if host.ovn_version >= RECENT:
            return host
    except InstallError:
        pass
    return _checked(OvnInstall(_cached_root(progress)))


def _checked(install: OvnInstall) -> OvnInstall:
    for name in _TOOLS:
        install.program(name)
    for db in _SCHEMAS:
        install.schema(db)
    _ = install.ovn_version
    return install


def _follow(root: Path, path: Path) -> Path:
    """Resolve symbolic links as seen from inside `root` (alternatives are absolute links)."""
    for _ in range(10):
        if not path.is_symlink():
            return path
        target = Path(os.readlink(path))
        path = root / target.relative_to("/") if target.is_absolute() else path.parent / target
    return path


@cache
def _loader(root: Path) -> Path:
    for pattern in ("lib64/ld-linux*.so.*", "lib/ld-linux*.so.*", "usr/lib/*-linux-gnu/ld-linux*.so.*"):
        for found in sorted(root.glob(pattern)):
            path = _follow(root, found)
            if path.is_file():
                return path
    raise InstallError(f"{root}: no dynamic loader (is this a root directory?)")


@cache
def _library_dirs(root: Path) -> tuple[Path, ...]:
    found = [
        *root.glob("usr/lib/*-linux-gnu"),
        *root.glob("lib/*-linux-gnu"),
        root / "usr/lib64",
        root / "usr/lib",
    ]
    return tuple(directory for directory in found if directory.is_dir())


@cache
def _version(install: OvnInstall, program: str) -> tuple[int, ...]:
    text = install.run(program, "--version")
    match = re.search(r"(\d+)\.(\d+)\.(\d+)", text.splitlines()[0])
    if not match:
        raise InstallError(f"{program} --version: {text.splitlines()[0]!r} has no version")
    return tuple(int(part) for part in match.groups())


# -- the cached root ----------------------------------------------------------------------------------------


def _cached_root(progress: Progress) -> Path:
    cache_dir = Path(os.environ.get(CACHE_VARIABLE) or DEFAULT_CACHE)
    root = cache_dir / ROOT_NAME
    if root.is_dir():
        return root
    cache_dir.mkdir(parents=True, exist_ok=True)
    with _locked(cache_dir / f"{ROOT_NAME}.lock"):
        if not root.is_dir():
            _debootstrap(root, progress)
    return root


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _debootstrap(root: Path, progress: Progress) -> None:
    """Make the root; it appears under its name only when it is complete."""
    if not shutil.which("debootstrap"):
        raise InstallError("debootstrap is missing: install it, or name a root with --ovn, or use --ovn host")
    partial = root.with_suffix(".tmp")
    shutil.rmtree(partial, ignore_errors=True)
    progress("OVN: making a Debian 13 root with a recent OVN (once, about 100 s)")
    command = [
        "debootstrap", "--variant=minbase", f"--include={','.join(ROOT_PACKAGES)}", ROOT_SUITE, str(partial),
    ]  # fmt: skip
    last: deque[str] = deque(maxlen=5)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            for line in process.stdout or ():
                last.append(line.strip())
                progress(f"OVN: debootstrap: {line.strip()[:90]}")
        except BaseException:
            _end_session(process)
            shutil.rmtree(partial, ignore_errors=True)
            raise
    if process.returncode:
        shutil.rmtree(partial, ignore_errors=True)
        raise InstallError(f"debootstrap failed: {' | '.join(last)}")
    # Package archives are of no further use; they are a third of the size.
    shutil.rmtree(partial / "var/cache/apt/archives", ignore_errors=True)
    partial.rename(root)


def _end_session(process: subprocess.Popen[str]) -> None:
    """End a program with all that it has started; it gets a moment to undo its mounts."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
            return


def main() -> None:
    """Say which installation a lab would use, and make it ready: `python -m ovnkit.testing.installs`."""
    try:
        install = locate(progress=_Sparse())
    except InstallError as error:
        raise SystemExit(f"setup: {error}") from None
    versions = ".".join(map(str, install.ovn_version)), ".".join(map(str, install.ovs_version))
    _say("OVN {} and Open vSwitch {} ({})".format(*versions, install.root))


class _Sparse:
    """Progress for a log: the first line, then one every ten seconds."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, text: str) -> None:
        """Say it, if it is time."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 10
            _say(text)


def _say(text: str) -> None:
    sys.stdout.write(f"setup: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
