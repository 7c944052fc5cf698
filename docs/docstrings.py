"""Convert docstrings for Sphinx: their Markdown becomes reStructuredText, formulas are kept."""

import re

__all__ = ["as_rst"]

_CODE = re.compile(r"(``.+?``|`[^`\n]+`|\$[^$]+\$)")
_REFERENCE = re.compile(r"`[A-Za-z_][\w.]*`")
_ARGUMENT = re.compile(r"^\s*\*{1,2}\w+(?: \([^)]*\))?:")


def as_rst(lines: list[str]) -> None:
    """Rewrite a docstring in place.

    Args:
        lines: Its lines.
    """
    text = "\n".join(lines)
    blocks = [_block(block) for block in re.split(r"\n[ ]*\n", text)]
    lines[:] = "\n\n".join(blocks).split("\n")


def _block(block: str) -> str:
    rows = block.split("\n")
    if all(row.lstrip().startswith("|") for row in rows):
        return _table(rows)
    if any(re.search(r"\S {3,}\S", row) for row in rows):  # columns
        return "\n".join(["::", "", *(f"   {row}" for row in rows)])
    if rows[0].strip() == "$$":
        indent = rows[0].partition("$$")[0]
        return "\n".join([f"{indent}.. math::", "", *(f"   {row}" for row in rows if row.strip() != "$$")])
    done, example = [], False
    for row in rows:
        example = example or row.lstrip().startswith(">>>")
        done.append(row if example else _line(row))
    return "\n".join(done)


def _line(row: str) -> str:
    match = _ARGUMENT.match(row)  # napoleon escapes the stars of *args
    head = match[0] if match else ""
    return head + "".join(map(_part, _CODE.split(row[len(head) :])))


def _part(part: str) -> str:
    if part.startswith("``") or _REFERENCE.fullmatch(part):
        return part
    if part.startswith("`"):
        return f"`{part}`"
    if part.startswith("$"):
        return f":math:`{part.strip('$')}`"
    return re.sub(r"(?<=\w)_(?!\w)|[*|]", r"\\\g<0>", part)


def _table(rows: list[str]) -> str:
    indent = " " * (len(rows[0]) - len(rows[0].lstrip()))
    cells = [[_line(cell.strip()) for cell in row.strip().strip("|").split("|")] for row in rows]
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (cells[0], *cells[2:]):
        lines += [f"   {'* -' if column == 0 else '  -'} {cell}" for column, cell in enumerate(row)]
    return "\n".join(indent + line for line in lines)
