"""Small SVG writing: text, boxes and lines, escaped; no library needed, and nothing fetched when it is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

INK, FAINT, PAPER, RED, AMBER, PALE, LINE = "#1d2733", "#5f6b7a", "#ffffff", "#c62828", "#f0a63a", "#dfe7ef", "#b8c4d0"
GREEN = "#2e7d5b"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
WIDE = 0.58
"""Width of a letter in parts of its height, about."""


def width_of(text: str, size: float) -> float:
    """Estimate how wide a text is."""
    return len(text) * size * WIDE


def short(text: str, most: int) -> str:
    """Cut a text to so many letters."""
    return text if len(text) <= most else text[: most - 1] + "…"


@dataclass(slots=True)
class Svg:
    """A picture under construction; sizes in pixels."""

    width: float = 0
    height: float = 0
    title: str = ""
    parts: list[str] = field(default_factory=lambda: [])

    def box(
        self, x: float, y: float, w: float, h: float, fill: str, *, line: str = "none", r: float = 3, tip: str = ""
    ) -> None:
        """Draw a box, with a text that shows on pointing."""
        inside = f"<title>{escape(tip)}</title>" if tip else ""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="{r}" fill="{fill}" stroke="{line}">'
            f"{inside}</rect>"
        )

    def text(
        self, x: float, y: float, words: str, *, size: float = 13, fill: str = INK, anchor: str = "start",
        bold: bool = False, turn: float = 0,
    ) -> None:  # fmt: skip
        """Write a line of text; y is its base line."""
        more = f' transform="rotate({turn:g} {x:.1f} {y:.1f})"' if turn else ""
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{fill}" text-anchor="{anchor}"{weight}{more}>'
            f"{escape(words)}</text>"
        )

    def curve(self, x1: float, y1: float, x2: float, y2: float, colour: str, *, wide: float = 1.2) -> None:
        """Draw a curve from left to right."""
        middle = (x1 + x2) / 2
        path = f"M{x1:.1f},{y1:.1f} C{middle:.1f},{y1:.1f} {middle:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"
        self.parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{wide:g}"/>')

    def render(self) -> str:
        """Give the whole picture."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:.0f} {self.height:.0f}" '
            f'width="{self.width:.0f}" height="{self.height:.0f}" role="img" aria-label={quoteattr(self.title)} '
            f'font-family="{FONT}">'
        )
        ground = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
        return "\n".join([head, f"<title>{escape(self.title)}</title>", ground, *self.parts, "</svg>\n"])
