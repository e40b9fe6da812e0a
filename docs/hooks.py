"""What the documentation takes from the code when it is built, so that it cannot be out of date.

A page marks the place with a comment:

    <!-- supported layers -->    the table RULES of fullyconv.rules
    <!-- refused layers -->      the table REFUSED
    <!-- messages -->            every message that the package raises
    <!-- commands -->            the help of every command

and names a public name whose reference is to stand there by `::: name`.

The tables and the messages are read from the source, which imports neither Keras nor the package.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[1] / "src" / "fullyconv"
TABLES = SOURCE / "rules" / "__init__.py"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in what a page marks; mkdocs calls this for each page."""
    for mark, make in GENERATED.items():
        if f"<!-- {mark} -->" in markdown:
            markdown = markdown.replace(f"<!-- {mark} -->", make())
    return re.sub(r"^::: (\w+)$", lambda found: f"::: {home_of(found[1])}.{found[1]}", markdown, flags=re.MULTILINE)


def home_of(name: str) -> str:
    """The module that a public name is imported from."""
    imports = [n for n in ast.walk(ast.parse((SOURCE / "__init__.py").read_text())) if isinstance(n, ast.ImportFrom)]
    return next(str(n.module) for n in imports if name in {alias.name for alias in n.names})


# ------------------------------------------------------------------------------------------------ supported, refused


def supported() -> str:
    """A section for each group of `RULES`, as the comments in the table name them; a row for what becomes the same."""
    sections, meanings = [], _meanings()
    for line in _table("RULES"):
        if heading := re.fullmatch(r"    # (.*)", line):
            sections.append((heading[1][0].upper() + heading[1][1:], {}))
        elif entry := re.fullmatch(r"    ([\w.]+): (.*),", line):
            sections[-1][1].setdefault(_meaning(entry[2], meanings), []).append(_shown(entry[1]))
    return "\n".join(_section(title, rows) for title, rows in sections)


def _section(title: str, rows: dict[str, list[str]]) -> str:
    """A heading, and a table of what becomes what."""
    lines = [f"| {', '.join(names)} | {meaning} |" for meaning, names in rows.items()]
    return "\n".join([f"\n### {title}\n", "| in the classifier | becomes |", "|---|---|", *lines])


def _meanings() -> dict[str, str]:
    """What each rule returns: the first line of its docstring. A factory stands for the rule that it makes."""
    found = {}
    for path in TABLES.parent.glob("*.py"):
        for function in (n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)):
            made = [n for n in function.body if isinstance(n, ast.FunctionDef)]
            texts = [ast.get_docstring(n) for n in (*made, function)]
            found[function.name] = next(text for text in texts if text).splitlines()[0] if any(texts) else ""
    return found


def _meaning(rule: str, meanings: dict[str, str]) -> str:
    """What a rule returns; for one that was wrapped, such as `places_or(take)`, what the rule inside returns."""
    names = [name for name in re.findall(r"\w+", rule) if name in meanings]
    text = meanings[names[-1]]
    same = re.fullmatch(r"As `(\w+)`\.", text)
    return meanings[same[1]] if same else text


def refused() -> str:
    """The table of `REFUSED`: each class, why it has no rule, and what to do."""
    tree = ast.parse(TABLES.read_text())
    assigned = [n for n in tree.body if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)]
    named = {node.targets[0].id: node.value for node in assigned}
    table = next(n.value for n in tree.body if isinstance(n, ast.AnnAssign) and n.target.id == "REFUSED")
    rows = ["| class | why | what to do |", "|---|---|---|"]
    for key, value in zip(table.keys, table.values, strict=True):
        reason, remedy = ast.literal_eval(named[value.id] if isinstance(value, ast.Name) else value)
        rows.append(f"| {_shown(ast.unparse(key))} | {reason} | {remedy} |")
    return "\n".join(rows)


def _table(name: str) -> list[str]:
    """The lines of a table in the source, between its braces."""
    text = TABLES.read_text()
    return re.search(rf"^{name}: .*?= \{{\n(.*?)^\}}", text, re.MULTILINE | re.DOTALL)[1].splitlines()


def _shown(key: str) -> str:
    """A class as readers know it: a layer by its name, an operation as a function of keras.ops."""
    module, _, name = key.rpartition(".")
    if module.startswith("_") and module != "_keras":
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        return "`x[...]`" if name == "GetItem" else f"`keras.ops.{snake}`"
    return f"`{name}`"


# ----------------------------------------------------------------------------------------------------------- messages


def messages() -> str:
    """A section for each exception and one for refusals of layers, with an anchor for each message."""
    lines, used = [], set()
    for kind, found in sorted(_messages().items()):
        title = "Why a layer is refused" if kind == "Decline" else kind
        lines += [f"\n### {title} {{ #{_slug(title)} }}\n"]
        for text in found:
            anchor = _unique(_slug(text.partition("\n")[0]), used)
            link = f'<a id="{anchor}" href="#{anchor}" title="Link to this message">#</a>'
            lines += [f"{link}\n\n```text\n{text}\n```\n"]
    return "\n".join(lines)


def _messages() -> dict[str, list[str]]:
    """The texts that are raised, by the name of the exception."""
    found: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        tree = _Constants(tree).visit(tree)
        functions = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        for function in functions.values():
            for kind, text in _raised(function, functions):
                if text not in found.setdefault(kind, []):
                    found[kind].append(text)
    return {kind: sorted(texts) for kind, texts in found.items() if texts}


class _Constants(ast.NodeTransformer):
    """Puts the constants of a module in the places of their names."""

    def __init__(self, tree: ast.Module) -> None:
        named = [(n.targets[0], n.value) for n in tree.body if isinstance(n, ast.Assign)]
        self.values = {n.id: v for n, v in named if isinstance(n, ast.Name) and isinstance(v, ast.Constant)}

    def visit_Name(self, node: ast.Name) -> ast.expr:  # how ast calls it
        return self.values.get(node.id, node) if isinstance(node.ctx, ast.Load) else node


def _raised(function: ast.FunctionDef, functions: dict[str, ast.FunctionDef]) -> Iterator[tuple[str, str]]:
    """The exceptions of this package that a function makes, each with what it says."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and (kind := _exception(node)) and node.args:
            texts = list(_texts(node.args[0], function, functions))
            remedy = next(_texts(node.args[1], function, functions), "") if len(node.args) > 1 else ""
            yield from ((kind, f"{text}.\n{remedy}".strip() if kind == "Decline" else text) for text in texts)


def _exception(node: ast.Call) -> str:
    name = ast.unparse(node.func).rpartition(".")[2]
    own = re.findall(r"^class (\w+)", (SOURCE / "errors.py").read_text(), re.MULTILINE)
    return name if name in {"Decline", *own} else ""


def _texts(node: ast.expr, function: ast.FunctionDef, functions: dict[str, ast.FunctionDef]) -> Iterator[str]:
    """The texts that an expression can be, with what is filled in as <name>."""
    if isinstance(node, ast.Name):
        values = [n.value for n in ast.walk(function) if isinstance(n, ast.Assign) and _binds(n, node.id)]
        for value in values:
            yield from _texts(value, function, functions)
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body, function, functions)
        yield from _texts(node.orelse, function, functions)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions:
        made = functions[node.func.id]
        for part in ast.walk(made):
            if isinstance(part, ast.Return) and part.value is not None and made is not function:
                yield from _texts(part.value, made, functions)
    elif (text := _template(node)).strip("<…> "):
        yield text


def _binds(node: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in node.targets)


def _template(node: ast.expr) -> str:
    """A text with its gaps."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return _template(node.left) + _template(node.right)
    if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Name | ast.Attribute):
        return f"<{ast.unparse(node.value).rpartition('.')[2].strip('_')}>"
    return "<…>" if isinstance(node, ast.FormattedValue) else ""


def _slug(text: str) -> str:
    """The anchor of a text: its first words, without what is filled in."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"<.*?>", " ", text).lower())
    return "-".join(words[:9])


def _unique(anchor: str, used: set[str]) -> str:
    while anchor in used:
        anchor += "-too"
    used.add(anchor)
    return anchor


# ----------------------------------------------------------------------------------------------------------- commands


def commands() -> str:
    """The help of the command, and of each of its commands."""
    text = _help()
    names = re.findall(r"^  (\w+)  +", text.partition("Commands:\n")[2], re.MULTILINE)
    parts = [f"```text\n{text}\n```"]
    parts += [f"## fullyconv {name} {{ #{name} }}\n\n```text\n{_help(name)}\n```" for name in names]
    return "\n\n".join(parts)


def _help(*command: str) -> str:
    run = [sys.executable, "-m", "fullyconv", *command, "--help"]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()


GENERATED: dict[str, Callable[[], str]] = {
    "supported layers": supported,
    "refused layers": refused,
    "messages": messages,
    "commands": commands,
}
