"""Make docs/messages.md: what ovnkit tells users, found in the source. `python scripts/message_page.py` prints it.

Event reasons come with a meaning and a cure from docs/event-reasons.toml; texts of errors are found as patterns.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[1]
REASONS = ROOT / "docs" / "event-reasons.toml"
SOURCES = ("core/ovnkit", "plugins")
NOT_TOLD = {"quoted", "str", "join", "sorted", "map", "for", "in", "or", "f", "r"}
"""Words in an expression that say nothing about its value."""
LEFT_OUT = ("plugins/lab/", "core/ovnkit/testing/")
"""The lab and the kit for tests speak to developers, and end with the text."""

BASES = {"Reject", "Retry", "ConfigError", "HostError", "OvnkitError", "CniError"}
REPORTED = {
    "Reject": "a Warning Event on the object, `ovnkit status`; nothing is written for it until it changes",
    "Retry": "`ovnkit status`; goes on by itself when what is missing appears",
    "ConfigError": "exit code 2",
    "HostError": "exit code 1, with advice",
    "CniError": "the Event of the kubelet on the pod, the log of the CNI server",
    "other": "exit code 1 of a command; of a sink: a Warning Event on the object, `ovnkit status`",
}

INTRODUCTION = """# Messages

What ovnkit tells. This page is made from the source by `python scripts/message_page.py`; meanings and cures are
in `docs/event-reasons.toml`. Search for a part of a text that doesn't depend on your objects; `{name}` stands for
a value.

An Event is on the object that it is about (`kubectl describe`). `ovnkit status` lists what failed, what waits, and
since when.
"""


@frozen(order=True)
class Message:
    """A text that a user may meet: the class of its error, the part of ovnkit, the text with placeholders."""

    error: str
    part: str
    text: str


def modules() -> Iterator[tuple[str, ast.Module]]:
    """(part of ovnkit, syntax tree) of each source file."""
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if "/tests/" in name or name.startswith(LEFT_OUT):
                continue
            part = name.split("/")[1] if folder == "plugins" else "core"
            yield part, ast.parse(path.read_text())


def error_classes(trees: list[tuple[str, ast.Module]]) -> dict[str, str]:
    """Names of the classes of errors, with the one of `BASES` that tells where they are reported."""
    parents = {
        node.name: [ast.unparse(base).rpartition(".")[2] for base in node.bases]
        for _, tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    found = {name: name for name in BASES if name != "OvnkitError"} | {"OvnkitError": "other"}
    for _ in parents:
        for name, bases in parents.items():
            known = next((found[base] for base in bases if base in found), None)
            if known is not None:
                found.setdefault(name, known)
    return found


def text_of(node: ast.expr) -> str:
    """A literal or f-string as a pattern; empty for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "{" + placeholder(part) + "}"
            for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    return ""


def placeholder(part: ast.expr) -> str:
    """A short name for a value in a text: the last name in its expression."""
    names = re.findall(r"[A-Za-z_]\w*", re.sub(r"'[^']*'|\"[^\"]*\"", "", ast.unparse(part)))
    plain = [
        name
        for name in names
        if name not in ("quoted", "str", "join", "sorted", "map", "for", "in", "or", "f", "r")
    ]
    return plain[-1].strip("_").lower() if plain else "value"


def messages(trees: list[tuple[str, ast.Module]]) -> set[Message]:
    """All texts of errors that are raised or reported on purpose."""
    classes = error_classes(trees)
    found = set()
    for part, tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (name := ast.unparse(node.func).rpartition(".")[2]) in classes:
                texts = [text_of(argument) for argument in node.args]
                text = next((text for text in texts if " " in text), "")
                if text:
                    found.add(Message(classes[name], part, " ".join(text.split())))
    return found


def reasons(trees: list[tuple[str, ast.Module]]) -> dict[str, set[str]]:
    """Reasons of Events, and the parts of ovnkit that give them."""
    found: dict[str, set[str]] = defaultdict(set)
    for part, tree in trees:
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name) and isinstance(node.value.value, str)
        }
        for node in ast.walk(tree):
            given: list[ast.expr] = []
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func).rpartition(".")[2]
                given += [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
                given += node.args[:1] if name == "Complaint" else ()
                given += node.args[2:] if name in ("Event", "events", "_note") else ()
            elif isinstance(node, ast.FunctionDef):
                given += [value for value in (*node.args.defaults, *node.args.kw_defaults) if value is not None]
            for value in given:
                text = constants.get(value.id) if isinstance(value, ast.Name) else text_of(value)
                if text and re.fullmatch(r"([A-Z][a-z]+){2,}(\{\w+\})?|Exhausted", text):
                    found[text.partition("{")[0]].add(part)
    return found


def page() -> str:
    """The page in Markdown."""
    trees = list(modules())
    explained = tomllib.loads(REASONS.read_text())
    lines = [
        INTRODUCTION,
        "## Reasons of Events",
        "",
        "| reason | from | meaning | cure |",
        "| --- | --- | --- | --- |",
    ]
    for reason, parts in sorted(reasons(trees).items()):
        entry = explained.get(reason, {})
        meaning, cure = entry.get("meaning", ""), entry.get("cure", "")
        lines.append(f"| `{reason}` | {', '.join(sorted(parts))} | {meaning} | {cure} |")
    by_class: dict[str, list[Message]] = defaultdict(list)
    for message in sorted(messages(trees)):
        by_class[message.error].append(message)
    for error, where in REPORTED.items():
        lines += ["", f"## {error if error != 'other' else 'Other errors'}", "", f"Where: {where}.", ""]
        lines += ["| from | text |", "| --- | --- |"]
        lines += [f"| {each.part} | {each.text.replace('|', chr(92) + '|')} |" for each in by_class[error]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
