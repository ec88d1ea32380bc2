"""Build hook: expand the globs in `packages` and `dev-mode-dirs` of pyproject.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ExpandGlobs(BuildHookInterface):  # type: ignore[type-arg]
    """A new plugin is shipped, and importable in an editable installation, because it is in plugins/."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 (hatchling's signature)
        """Replace each glob by the directories that it matches: packages are those with an `__init__.py`."""
        root, target = Path(self.root), self.build_config.target_config
        for option, within in ("packages", "/__init__.py"), ("dev-mode-dirs", "/"):
            target[option] = sorted(
                str(path.relative_to(root)).removesuffix("/__init__.py")
                for pattern in target[option]
                for path in root.glob(pattern + within)
            )
