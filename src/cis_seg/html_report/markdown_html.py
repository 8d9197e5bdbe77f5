"""The Markdown of ``cis_seg.tables.markdown`` as HTML: headings, tables, lists and paragraphs, which is all it has."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def to_html(markdown: str) -> str:
    """Blocks are divided by empty lines; text is escaped, so that no run's name becomes a tag."""
    return "\n".join(_block(block.splitlines()) for block in markdown.strip().split("\n\n") if block.strip())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are text."""
    body = "".join(f"<tr>{_cells(row, 'td')}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{_cells(head, "th")}</tr></thead><tbody>{body}</tbody></table></div>'


def _block(lines: Sequence[str]) -> str:
    if lines[0].startswith("## "):
        return f"<h3>{escape(lines[0][3:])}</h3>"
    if lines[0].startswith("|"):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        return table(rows[0], rows[2:])  # rows[1] is the rule
    if lines[0].startswith("- "):
        return "<ul>" + "".join(f"<li>{escape(line[2:])}</li>" for line in lines) + "</ul>"
    return f"<p>{escape(' '.join(lines))}</p>"


def _cells(row: Sequence[str], tag: str) -> str:
    return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
