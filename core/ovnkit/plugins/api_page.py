"""The manual's page on `ovnkit.api`, made from its docstrings."""

from __future__ import annotations

import ast
import pkgutil
from collections.abc import Iterator
from pathlib import Path

from ovnkit import api

INTRODUCTION = """# ovnkit.api

What plugins import: nothing else of ovnkit is meant for them. This page is made from the docstrings by
`ovnkit docs api`; edit those, not the page. The hooks have a page of their own, [hooks.md](hooks.md); the kit for
tests is `ovnkit.testing` (`pip install ovnkit[testing]`).
"""


def page() -> str:
    """The page in Markdown."""
    lines = [INTRODUCTION]
    for name in sorted(module.name for module in pkgutil.iter_modules(api.__path__) if not module.ispkg):
        path = Path(api.__path__[0], f"{name}.py")
        lines += [f"## `ovnkit.api.{name}`", "", *_module(ast.parse(path.read_text(encoding="utf-8"))), ""]
    return "\n".join(lines).rstrip() + "\n"


def _module(tree: ast.Module) -> Iterator[str]:
    yield ast.get_docstring(tree) or ""
    yield ""
    for place, node in enumerate(tree.body):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield from _function(node)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _class(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            after = tree.body[place + 1] if place + 1 < len(tree.body) else None
            yield from _constant(node, after)


def _function(node: ast.FunctionDef) -> Iterator[str]:
    result = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    yield f"- `{node.name}({ast.unparse(node.args)}){result}`: {_text(ast.get_docstring(node))}"


def _class(node: ast.ClassDef) -> Iterator[str]:
    bases = f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else ""
    yield f"- `class {node.name}{bases}`: {_text(ast.get_docstring(node))}"
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and not ast.unparse(item.target).startswith("_"):
            yield f"    - `{ast.unparse(item)}`"
        elif isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
            yield from (f"    {line}" for line in _function(item))


def _constant(node: ast.Assign | ast.AnnAssign, after: ast.stmt | None) -> Iterator[str]:
    """A constant that has a docstring."""
    text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
    if not isinstance(text, str):
        return
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    names = [target for target in targets if not ast.unparse(target).lstrip("(").startswith("_")]
    if names:
        yield f"- `{ast.unparse(names[0])}`: {_text(text)}"


def _text(docstring: str | None) -> str:
    return " ".join((docstring or "").split())
