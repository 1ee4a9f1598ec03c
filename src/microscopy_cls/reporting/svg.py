"""Matplotlib figures as SVG inside the page: its fonts, its colours in light and dark, no reference to elsewhere."""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape

# Figures are drawn in these stand-ins, which the style sheet's variables replace. One point is one CSS pixel.
INK, MUTED, RULE, BLUE, ORANGE, HIT, MISS, ON_CELL = (f"#0{digit}0{digit}0{digit}" for digit in range(1, 9))
_VARIABLES = {
    INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)", BLUE: "var(--blue)", ORANGE: "var(--orange)",
    HIT: "var(--hit)", MISS: "var(--miss)", ON_CELL: "var(--on-cell)",
}  # fmt: skip
STYLE = {
    "svg.fonttype": "none",  # text stays text: smaller, searchable, in the page's font
    "svg.hashsalt": "report",  # the same figure gives the same bytes
    "text.parse_math": False,  # a class may be called $x$
    "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": RULE, "axes.linewidth": 1.0,
    "xtick.color": RULE, "ytick.color": RULE, "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED,
    "axes.spines.top": False, "axes.spines.right": False, "axes.facecolor": "none", "figure.facecolor": "none",
    "savefig.facecolor": "none", "font.size": 11.0, "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
}  # fmt: skip


def inches(px: float) -> float:
    """Matplotlib's SVG has 72 units an inch, and the page shows one unit as one CSS pixel."""
    return px / 72


def inline_svg(figure: Any, name: str, alt: str, *, tight: bool = False, min_width_px: float = 0) -> Markup:
    """Draw a figure (made under `STYLE`) as an `svg` element.

    Args:
        figure: matplotlib's.
        name: unique on the page; prefixes the ids inside.
        alt: what a reader who cannot see it is told.
        tight: grow or cut the canvas to what is drawn.
        min_width_px: below it the surroundings scroll instead.
    """
    buffer = io.StringIO()
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # Only measured with matplotlib's font; the browser draws the text and has the glyphs.
        warnings.filterwarnings("ignore", message=r"(?s)Glyph .* missing from")
        figure.savefig(buffer, format="svg", bbox_inches="tight" if tight else None, pad_inches=0.03)
    return _embedded(buffer.getvalue(), name, alt, min_width_px)


def _embedded(text: str, name: str, alt: str, min_width_px: float) -> Markup:
    head, body = text[text.index("<svg") :].split(">", 1)
    box = re.search(r'viewBox="([^"]+)"', head)
    assert box, "matplotlib writes a viewBox"
    width = float(box[1].split()[2])
    body = re.sub(r"<metadata>.*?</metadata>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r"(fill|stroke): (#\w{6})", lambda found: f"{found[1]}: {_VARIABLES.get(found[2], found[2])}", body)
    size = f"max-width:{width:.0f}px;min-width:{min(width, min_width_px):.0f}px"
    return Markup(f'<svg viewBox="{box[1]}" role="img" aria-label="{escape(alt)}" style="{size}">{body}')  # noqa: S704
