"""What all pages of this room share: plain HTML that prints well, works without scripts and network, and QR codes."""

from __future__ import annotations

import io
from html import escape

import segno

STYLE = """
:root { color-scheme: light; --ink: #16202a; --soft: #5b6875; --line: #d5dce3; --accent: #0b6bcb; --bad: #b3261e }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink); background: #fff;
  max-width: 58rem; margin: 2rem auto; padding: 0 1.25rem }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem } p { margin: .5rem 0 } .soft { color: var(--soft) }
table { border-collapse: collapse; width: 100%; font-size: .94rem; margin: .6rem 0 }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid var(--line) }
th { color: var(--soft); font-weight: 600 }
td.n, th.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
code, .mono { font: .9em/1.5 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere }
.tag { display: inline-block; border: 1px solid var(--line); border-radius: 1rem; padding: 0 .6rem; font-size: .85rem }
.bad { color: var(--bad) }
.card > :first-child, .card > div > :first-child { margin-top: 0 }
.sheet { break-before: page } .sheet:first-of-type { break-before: auto }
.codes { display: flex; gap: 1.2rem; align-items: flex-start; flex-wrap: wrap; break-inside: avoid }
.codes svg { width: 8.5rem; height: 8.5rem; flex: none } .codes > div { flex: 1 1 18rem }
.card { border: 1px solid var(--line); border-radius: .6rem; padding: 1rem 1.2rem; margin: .8rem 0;
  break-inside: avoid }
ol li, ul li { margin: .25rem 0 } button, input { font: inherit; padding: .45rem .9rem; border-radius: .4rem;
  border: 1px solid var(--line) } button { background: var(--accent); color: #fff; border-color: var(--accent) }
button.plain { background: #fff; color: var(--ink) } form { display: inline-flex; gap: .5rem; flex-wrap: wrap }
.box { display: inline-block; width: 1rem; height: 1rem; border: 1.5px solid var(--ink); vertical-align: -.15rem }
@media print { body { margin: 0; max-width: none; font-size: 11.5pt } .noprint { display: none } a { color: inherit } }
"""


def page(title: str, body: str, lang: str = "en", head: str = "") -> str:
    """Give a whole page. `body` and `head` are HTML already."""
    return (
        f'<!doctype html>\n<html lang="{escape(lang)}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>{head}<style>{STYLE}</style></head>\n<body>{body}</body></html>\n"
    )


def qr(text: str) -> str:
    """Give a code to scan as inline SVG. Raises ValueError for more than fits (about 2 kB)."""
    made = io.BytesIO()
    segno.make(text, error="m", micro=False).save(made, kind="svg", xmldecl=False, svgns=True, omitsize=True, border=2)
    return made.getvalue().decode().replace("<svg ", f'<svg role="img" aria-label="{escape(text[:120])}" ', 1)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Give a table; cells are HTML already."""
    cells = "".join(f"<th>{escape(one)}</th>" for one in head)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{lines}</table>"
