r"""Text with names in it that come from files of others, as it may reach a terminal, a picture or a spreadsheet.

A terminal obeys control characters: they clear the screen, write to the clipboard, fake lines. Each becomes its escape,
such as `\x1b`.
"""

from __future__ import annotations

import re

LONGEST = 5000  # characters of a line that are shown
# Control characters, marks that change the direction of text, separators of lines, and halves of surrogate pairs.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# What spreadsheets take for a formula (OWASP, CSV Injection), their full-width forms too.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def printable(text: str) -> str:
    r"""A text of several lines that does nothing to a terminal but show.

    Example:
        >>> printable("one\ntwo \x1b[2J")
        'one\ntwo \\x1b[2J'
    """
    return "\n".join(map(inline, text.split("\n")))


def inline(text: str, longest: int = LONGEST) -> str:
    r"""A text that stays in its line, such as a name; of a very long one, the beginning.

    Example:
        >>> inline("cat\nError: dog")
        'cat\\nError: dog'
    """
    more = f"… ({len(text) - longest:,} more characters)" if len(text) > longest else ""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text[:longest]) + more


def cell(text: str) -> str:
    """A text as a spreadsheet shows it: one that looks like a formula gets an apostrophe in front.

    So does one that looks so behind apostrophes. To read it back, drop the first apostrophe of those.

    Example:
        >>> cell("=1+1"), cell("cat"), cell("'tis"), cell("'=1")
        ("'=1+1", 'cat', "'tis", "''=1")
    """
    return f"'{text}" if _FORMULA.match(text) else text
