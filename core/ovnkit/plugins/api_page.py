"""The manual's page on what plugins import, `ovnkit.api` and `ovnkit.network`, made from their docstrings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import ovnkit

INTRODUCTION = """# What plugins import

Plugins import `ovnkit.api`, which is the contract, and `ovnkit.network`, the words of the default network that
they share; nothing else of ovnkit is meant for them. This page is made from the docstrings by `ovnkit docs api`;
edit those, not the page. The hooks have a page of their own, [hooks.md](hooks.md); the kit for tests is
`ovnkit.testing` (`pip install ovnkit[testing]`).
"""


def page() -> str:
    """The page in Markdown."""
    lines = [INTRODUCTION]
    for package in ("api", "network"):
        # read, not imported: this package knows as little of ovnkit.network as the rest of the core
        folder = Path(ovnkit.__path__[0], package)
        for path in sorted(folder.rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            parts = ("ovnkit", package, *path.relative_to(folder).with_suffix("").parts)
            module = ".".join(parts).removesuffix(".__init__")
            public = public_names(tree)
            if public is not None or package == "network" or module == "ovnkit.api":
                lines += [f"## `{module}`", "", *_module(tree, public), ""]
    return "\n".join(lines).rstrip() + "\n"


def public_names(tree: ast.Module) -> frozenset[str] | None:
    """What `__all__` lists; None for a module without."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return frozenset(ast.literal_eval(node.value))
    return None


def _module(tree: ast.Module, public: frozenset[str] | None) -> Iterator[str]:
    yield ast.get_docstring(tree) or ""
    yield ""
    for place, node in enumerate(tree.body):
        if isinstance(node, ast.FunctionDef) and _is_public(node.name, public):
            yield from _function(node)
        elif isinstance(node, ast.ClassDef) and _is_public(node.name, public):
            yield from _class(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            after = tree.body[place + 1] if place + 1 < len(tree.body) else None
            yield from _constant(node, after, public)


def _is_public(name: str, public: frozenset[str] | None) -> bool:
    return name in public if public is not None else not name.startswith("_")


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


def _constant(
    node: ast.Assign | ast.AnnAssign, after: ast.stmt | None, public: frozenset[str] | None
) -> Iterator[str]:
    """A constant that has a docstring."""
    text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
    if not isinstance(text, str):
        return
    targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
    names = [ast.unparse(target) for target in targets]
    # one docstring may stand for several constants: A, B = 1, 2
    if any(_is_public(name.strip(" ()"), public) for name in names[0].split(",")):
        yield f"- `{names[0]}`: {_text(text)}"


def _text(docstring: str | None) -> str:
    return " ".join((docstring or "").split())
