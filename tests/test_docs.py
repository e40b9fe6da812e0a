"""Every block of code in the documentation runs, in the order of its page, and prints what the page says it prints.

```python     is run, all blocks of a page in one namespace and one empty folder
```text       right behind a python block is what that block prints, `...` standing for anything
```console    each `$ fullyconv ...` is run; what follows it, if anything, is what it prints
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import fullyconv
from fullyconv import errors
from fullyconv.rules import REFUSED, RULES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
BLOCK = re.compile(r"^( *)```(python|text|console)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
CHECK = doctest.OutputChecker().check_output
LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# Pages run where the documentation says to run them; from-scratch needs nothing of the package, and runs everywhere.
ANYWHERE = {"from-scratch.md"}


def blocks(page: str) -> Iterator[tuple[str, str, bool]]:
    """Kind and text of each block, and whether it stands right behind the block before it."""
    text, end = (DOCS / page).read_text(), 0
    for found in BLOCK.finditer(text):
        lines = [line.removeprefix(found[1]) for line in found[3].splitlines()]
        yield found[2], "\n".join(lines) + "\n", not text[end : found.start()].strip()
        end = found.end()


def same(expected: str, printed: str) -> bool:
    return CHECK(expected, printed, LOOSE)


def run_console(text: str) -> None:
    """Run the commands of a block that are ours."""
    from fullyconv.cli import app

    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        if not command.startswith("fullyconv "):
            continue
        result = CliRunner().invoke(app, shlex.split(command)[1:], prog_name="fullyconv")
        assert result.exit_code == 0, f"{command}\n{result.output}"
        assert not expected.strip() or same(expected, result.output), f"{command}\nprints:\n{result.output}"


@pytest.mark.parametrize("page", [page for page in PAGES if any(kind != "text" for kind, *_ in blocks(page))])
def test_code_of_a_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if page not in ANYWHERE and os.environ["KERAS_BACKEND"] != "openvino":
        pytest.skip("the documentation runs on OpenVINO")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    printed = None
    for kind, text, behind in blocks(page):
        if kind == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(text, page, "exec"), names)
            printed = out.getvalue()
        elif kind == "text" and behind and printed is not None:
            assert same(text, printed), f"{page} prints:\n{printed}"
        elif kind == "console":
            run_console(text)
        printed = printed if kind == "python" else None


def test_a_block_that_prints_something_else_is_noticed():
    assert same("a 1...\n", "a 1.5\n")
    assert not same("a 1\n", "a 2\n")


@pytest.mark.parametrize("page", PAGES)
def test_figures_of_a_page(page: str):
    for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (DOCS / page).read_text()):
        path = (DOCS / page).parent / name
        assert path.stat().st_size < 200_000
        with Image.open(path) as picture:
            picture.load()


def test_every_figure_is_shown_and_made_by_the_script():
    shown = {Path(name).stem for page in PAGES for name in re.findall(r"figures/(\w+\.png)", (DOCS / page).read_text())}
    script = (DOCS / "figures.py").read_text()
    made = set(re.findall(r'^    "(\w+)": ', script, re.MULTILINE)) | {"chess_queens"}
    assert shown == {path.stem for path in (DOCS / "figures").iterdir()}
    assert shown == made - ({"speed"} - shown)  # shown as soon as it was measured


def test_every_page_is_in_the_navigation():
    listed = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == PAGES


def test_every_public_name_is_in_the_reference():
    listed = re.findall(r"^::: (\w+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    names = {name for name, home in fullyconv._homes.items() if home != "errors"}
    assert sorted(listed) == sorted(names), "docs/api.md lists other names than fullyconv.__all__"


def test_a_public_name_is_found_in_its_module(hooks):
    assert hooks.on_page_markdown("## Plan\n\n::: plan\n") == "## Plan\n\n::: fullyconv.plan.plan\n"


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("documentation_hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_support_page_has_every_class(hooks):
    supported, refused = hooks.supported(), hooks.refused()
    names = re.findall(r"`([\w.]+)`(?=, | \|)|`x\[\.\.\.\]`", supported)
    assert len(names) == len(RULES)
    assert refused.count("\n| `") == len(REFUSED)
    assert {cls.__name__ for cls in RULES if cls.__module__.startswith("keras.src.layers")} <= set(names)
    assert (
        "| `Dense` | The convolution that computes a Dense layer at every window, or the same layer on every window. |"
        in supported
    )
    assert "`keras.ops.mean` | A reduction over all positions is a global pooling" in supported
    assert "| `Lambda` | holds code that cannot be read as layers |" in refused


def test_the_errors_page_has_every_error_and_its_messages(hooks):
    text = (DOCS / "errors.md").read_text() + hooks.messages()
    kinds = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    anchors = re.findall(r'(?:id="|\{ #)([\w-]+)', text)
    assert {kind.lower() for kind in kinds} - {"fullyconverror", "geometryerror"} <= set(anchors)
    assert "\nThere is no picture <where>; check the path.\n" in text
    assert "\npads the batch or the channels.\npad positions only\n" in text
    messages = re.findall(r'<a id="([\w-]+)"', text)
    assert len(messages) == len(set(messages)) > 100


def test_a_page_without_marks_stays_as_it_is(hooks):
    assert hooks.on_page_markdown("# Title\n\n<!-- a remark -->\n") == "# Title\n\n<!-- a remark -->\n"
    assert "| `Conv1D`, `Conv2D`, " in hooks.on_page_markdown("<!-- supported layers -->")
