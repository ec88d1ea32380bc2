"""Tables print data as it is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from rich._emoji_codes import EMOJI

from ovnkit.api.terminal import console, print_table, styled
from ovnkit_lab.progress import Reporter

DATA = [
    "fd00:a:b::/48", "NP:fire:x", "[red]", "[/]", "[bold]x[/bold]", "[link=http://x]y[/link]", ":warning-text:",
    "10.128.0.5", "'quoted'", "/etc/ovnkit/ovnkit.toml", "\\[red]", "[fd00::1]:80",
]  # fmt: skip
BAR = "\N{BOX DRAWINGS LIGHT VERTICAL}"


@pytest.fixture(autouse=True)
def no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def cells(text: str) -> list[str]:
    return [line.strip(BAR).split(BAR)[0].strip() for line in text.splitlines() if line.startswith(BAR)]


def test_every_emoji_name_and_all_markup_come_out_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"a:{name}:b" for name in EMOJI]
    print_table(("data",), [[text] for text in (*names, *DATA)], title=":fire: [red]title")
    shown = capsys.readouterr().out
    assert cells(shown) == [*names, *DATA]
    assert ":fire: [red]title" in shown
    print_table(("data",), [[styled(text, "red")] for text in DATA])
    assert cells(capsys.readouterr().out) == DATA


def test_a_console_prints_data_and_status_lines_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in (*(f":{name}:" for name in EMOJI), *DATA):
        console().print(text)
        assert capsys.readouterr().out == f"{text}\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    reporter = Reporter()
    with reporter.running():
        reporter.say("pod fd00:a:b::/48 [red]")
    reporter.done("NP:fire:x")
    assert "NP:fire:x" in capsys.readouterr().err


def test_what_steers_a_terminal_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("data",), [["a\x1b[2Jb\x07"]])
    assert cells(capsys.readouterr().out) == ["a\\x1b[2Jb\\x07"]


def test_tables_are_as_wide_as_columns_says_and_cut_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_table(("data",), [["x" * 100]])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) == 40
    assert "".join(lines).count("x") == 100
    monkeypatch.delenv("COLUMNS")
    print_table(("data",), [["x" * 200]])
    assert len([line for line in capsys.readouterr().out.splitlines() if "x" in line]) == 1, "a line per row"


@pytest.mark.parametrize("columns", ["0", "1", "9", "20", "33", "-5", "\u00b2"])
def test_a_narrow_console_cuts_nothing_either(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    print_table([*"ABCDEF"], [["x" * 30, "\u6f22" * 5, "y", "z" * 3, "", "v" * 12]])
    out = capsys.readouterr().out
    assert [out.count(c) for c in "x\u6f22yzv"] == [30, 5, 1, 3, 12]
    assert all(out.count(name) == 1 for name in "ABCDEF")


def test_consoles_are_made_in_one_place() -> None:
    root = Path(__file__).parents[3]
    makers = []
    for path in [
        *root.glob("core/ovnkit/**/*.py"),
        *root.glob("plugins/*/ovnkit_*/**/*.py"),
        *root.glob("bench/*.py"),
    ]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Console":
                makers.append(path.name)
    assert makers == ["terminal.py"]
