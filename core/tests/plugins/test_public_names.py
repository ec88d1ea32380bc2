"""What the last release had public is still there, or says what to use instead."""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from pathlib import Path

import pytest

from ovnkit.api._deprecation import deprecated_names
from ovnkit.plugins.public_names import listing

RELEASED = Path(__file__).parents[3] / "docs" / "public-names.txt"


def warns(path: str) -> bool:
    """Whether a name is gone in the way that docs/stability.md asks for."""
    module, _, name = path.rpartition(".")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError):
            return False
    return any(item.category is DeprecationWarning and path in str(item.message) for item in said)


def lost(released: str, now: str) -> list[str]:
    """Lines of the release that are neither there now nor deprecated; members go with their class."""
    gone = [line for line in released.splitlines()[1:] if line not in set(now.splitlines())]
    deprecated = {path for _, path in map(str.split, gone) if warns(path)}
    return [
        line for line in gone
        if not {line.split()[1], line.split()[1].rpartition(".")[0]} & deprecated
    ]  # fmt: skip


def test_no_public_name_goes_without_a_release_that_warns() -> None:
    missing = "\n".join(lost(RELEASED.read_text(), listing()))
    assert not missing, (
        f"public in the last release, and now neither there nor deprecated:\n{missing}\n"
        "docs/stability.md says how to deprecate a name. If a release has warned, or none has had it, "
        "run: ovnkit docs names > docs/public-names.txt"
    )


@pytest.fixture
def fruit() -> types.ModuleType:
    """A module that had `Apfel`, `Kern` and `Birne`; two of them are deprecated."""
    module = types.ModuleType("fruit")
    module.Apple, module._core = object(), object()  # type: ignore[attr-defined]
    module.__getattr__ = deprecated_names("fruit", "0.2", {"Apfel": "fruit.Apple", "Kern": "fruit._core"})  # type: ignore[method-assign]
    return module


def test_a_deprecated_name_works_and_says_what_to_use(
    fruit: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fruit", fruit)
    with pytest.warns(
        DeprecationWarning, match=r"fruit\.Apfel is deprecated since ovnkit 0\.2 .*; use fruit\.Apple$"
    ) as said:
        from fruit import Apfel  # type: ignore[import-not-found]
    assert Apfel is fruit.Apple
    assert said[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="it has no replacement"):
        assert fruit.Kern is fruit._core
    with pytest.raises(AttributeError, match="module 'fruit' has no attribute 'Birne'"):
        _ = fruit.Birne


def test_a_name_that_is_gone_is_told_a_deprecated_one_is_not(
    fruit: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fruit", fruit)
    released = "# 0.1\nclass fruit.Apfel\nmember fruit.Apfel.seeds\nclass fruit.Birne\nmember fruit.Birne.stalk\n"
    assert lost(released, "# 0.2\nclass fruit.Apple\n") == ["class fruit.Birne", "member fruit.Birne.stalk"]
    assert lost(released, released + "class fruit.Cherry\n") == []
