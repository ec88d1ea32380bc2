"""The manual's page on hooks, made from their specification."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable

import attrs

from ovnkit.api import hooks, metrics
from ovnkit.plugins.calls import hook_names

INTRODUCTION = """# Hooks

The whole contract between the core and its plugins. This page is made from `ovnkit.api.hooks` by
`ovnkit docs hooks`; edit the specification, not the page.

A plugin is a class with `hookimpl` methods. Its entry point in the group `ovnkit.plugins` names the class, and
the core makes one instance of it without arguments:

```toml
[project.entry-points."ovnkit.plugins"]
labels = "acme_labels.plugin:LabelsPlugin"
```

```python
from ovnkit.api.hooks import Declaration, hookimpl

class LabelsPlugin:
    @hookimpl
    def ovnkit_declare(self):
        return Declaration(needs=("topology",), summary="an address set per label")
```

An implementation may leave out arguments it doesn't use. Each hook is called plugin by plugin, those that
others need first; a plugin that raises is logged and counted under its name, and stops nobody else. Hooks that
are not marked "first result wins" ask every enabled plugin.
"""

_FAMILY = re.compile(r"^    # -- (.+?) -+$", re.MULTILINE)
_TYPES = (
    hooks.Declaration,
    hooks.Columns,
    hooks.AppliedStatus,
    hooks.Privilege,
    hooks.Scope,
    hooks.HookCalls,
    hooks.Answerer,
    hooks.Runtime,
    metrics.Metric,
    metrics.MetricKind,
    metrics.Sample,
    hooks.PodInterface,
)


def page() -> str:
    """The page in Markdown."""
    return "\n".join([INTRODUCTION, *_hooks(), "## Types", "", *_types()]).rstrip() + "\n"


def _families() -> dict[str, str]:
    """The family of each hook, from the headings in the specification's source."""
    source = inspect.getsource(hooks.Hooks)
    headings = [(match.start(), match[1]) for match in _FAMILY.finditer(source)]
    found = {}
    for name in hook_names():
        place = source.index(f"def {name}(")
        found[name] = next((title for start, title in reversed(headings) if start < place), "")
    return found


def _hooks() -> Iterable[str]:
    families = _families()
    last = ""
    for name, spec in hook_names().items():
        if families[name] != last:
            last = families[name]
            yield f"## {last[:1].upper()}{last[1:]}"
            yield ""
        yield f"### `{name}`"
        yield ""
        yield "```python"
        yield f"def {name}{_signature(spec)}"
        yield "```"
        yield ""
        yield inspect.getdoc(spec) or ""
        yield ""


def _signature(function: object) -> str:
    return str(inspect.signature(function)).replace("'", "").replace('"', "")  # type: ignore[arg-type]


def _types() -> Iterable[str]:
    for cls in _TYPES:
        yield f"### `{cls.__name__}`"
        yield ""
        yield inspect.getdoc(cls) or ""
        yield ""
        if attrs.has(cls):
            yield "| field | type | default |"
            yield "| --- | --- | --- |"
            for item in attrs.fields(cls):
                kind = str(item.type).replace("|", "\\|")
                default = item.default
                shown = "" if default is attrs.NOTHING else f"`{_default(default)}`"
                yield f"| `{item.name}` | `{kind}` | {shown} |"
            yield ""
        for name, method in vars(cls).items():
            if inspect.isfunction(method) and not name.startswith("_"):
                yield f"- `{name}{_signature(method)}`: {' '.join((inspect.getdoc(method) or '').split())}"
        yield ""


def _default(value: object) -> str:
    return f"{value.factory.__name__}()" if isinstance(value, attrs.Factory) else repr(value)  # type: ignore[arg-type,attr-defined]
