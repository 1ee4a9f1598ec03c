"""What stands around a heatmap: names with colours and shares, the meaning of opacity, a scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from microscopy_cls.inference.slides.palette import NUM_DISTINCT, Colour

PAPER: Colour = (255, 255, 255)
INK: Colour = (28, 30, 34)
MUTED: Colour = (118, 122, 130)
RULE: Colour = (206, 209, 214)
MARGIN = 28

_TEXT_PX, _SMALL_PX = 18, 15
_ROW_PX, _SWATCH_PX, _GAP_PX = 30, 20, 10
_LONGEST_NAME_PX = 260
_KEY_PX = (180, 16)  # the strip that explains opacity
_BAR_PART = 0.25  # of the picture's width that the scale's bar takes at most


@cache
def font(size_px: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which knows the letters of most languages; matplotlib brings it."""
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size_px)


def shortened(text: str, face: ImageFont.FreeTypeFont, width_px: float) -> str:
    """The text in one line, its end left out where it is wider than allowed."""
    text = " ".join(text.split())
    if face.getlength(text) <= width_px:
        return text
    while text and face.getlength(text + "…") > width_px:
        text = text[:-1]
    return text.rstrip() + "…"


def legend(
    classes: Sequence[str],
    colours: Sequence[Colour],
    shares: NDArray[np.float64],
    opacity: tuple[float, float],
    width_px: int | None,
    height_px: int | None,
) -> Image.Image:
    """Classes, the largest share first, in as many columns as one of two limits asks for, and what opacity means.

    Args:
        classes: names in index order.
        colours: of the classes.
        shares: (classes,).
        opacity: of an unsure and of a certain tile.
        width_px: room for columns beside each other; None where it is not limited.
        height_px: room for rows below each other; None where it is not limited.
    """
    order = np.argsort(-shares, kind="stable").tolist()
    names = [_name(classes, index) for index in range(len(classes))]
    column_px = _column_px(names)
    if width_px is not None:
        num_columns = max(1, min(len(names), (width_px + MARGIN) // (column_px + MARGIN)))
    else:
        assert height_px is not None, "one of both limits"
        num_columns = math.ceil(len(names) / max(1, (height_px - _ROW_PX * 2) // _ROW_PX))
    num_rows = math.ceil(len(names) / num_columns)
    num_columns = math.ceil(len(names) / num_rows)
    width = max(num_columns * (column_px + MARGIN) - MARGIN, _KEY_PX[0] + 160)
    image = Image.new("RGB", (width, num_rows * _ROW_PX + 12 + _ROW_PX + _SMALL_PX), PAPER)
    for place, index in enumerate(order):
        corner = (place // num_rows * (column_px + MARGIN), place % num_rows * _ROW_PX)
        _draw_row(image, corner, column_px, names[index], colours[index], float(shares[index]))
    _draw_key(image, num_rows * _ROW_PX + 12, opacity)
    return image


def _name(classes: Sequence[str], index: int) -> str:
    """The class's name, with its number where numbers stand on the map."""
    number = f"{index + 1}  " if len(classes) > NUM_DISTINCT else ""
    return shortened(number + classes[index], font(_TEXT_PX), _LONGEST_NAME_PX)


def _column_px(names: Sequence[str]) -> int:
    longest = max(font(_TEXT_PX).getlength(name) for name in names)
    return math.ceil(_SWATCH_PX + _GAP_PX + longest + 2 * _GAP_PX + font(_TEXT_PX).getlength("100.0 %"))


def _draw_row(
    image: Image.Image, corner: tuple[int, int], width_px: int, name: str, colour: Colour, share: float
) -> None:
    """Swatch, name and share; muted where no tile has the class."""
    draw, ink = ImageDraw.Draw(image), INK if share > 0 else MUTED
    x, y = corner
    middle = y + _ROW_PX // 2
    swatch = (x, middle - _SWATCH_PX // 2, x + _SWATCH_PX, middle + _SWATCH_PX // 2)
    draw.rounded_rectangle(swatch, 4, colour if share > 0 else PAPER, colour, 2)
    draw.text((x + _SWATCH_PX + _GAP_PX, middle), name, ink, font(_TEXT_PX), anchor="lm")
    draw.text((x + width_px, middle), _percent(share), ink, font(_TEXT_PX), anchor="rm")


def _percent(share: float) -> str:
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{share:.1%}".replace("%", " %") if share else "0 %"


def _draw_key(image: Image.Image, y: int, opacity: tuple[float, float]) -> None:
    """A strip from the opacity of a guess to that of certainty."""
    width, height = _KEY_PX
    draw = ImageDraw.Draw(image)
    draw.text((0, y), "confidence", MUTED, font(_SMALL_PX))
    ramp = 255 - np.linspace(*opacity, width) * (255 - np.mean(INK))
    strip = np.repeat(np.rint(ramp).astype(np.uint8)[None], height, axis=0)
    image.paste(Image.fromarray(strip), (0, y + _SMALL_PX + 8))
    draw.text((width + 8, y + _SMALL_PX + 8 + height // 2), "chance to certain", MUTED, font(_SMALL_PX), anchor="lm")


def scale_bar(um_per_px: float | None, picture_px: int) -> Image.Image:
    """A bar of 1, 2 or 5 times a power of ten, at most a quarter of the picture and at least 40 px where that is less.

    Args:
        um_per_px: of the picture; None where the slide's scale is not known, which is said instead.
        picture_px: its width.
    """
    if um_per_px is None:
        text, length = "scale unknown", 0
    else:
        length_um = _round_length(max(picture_px * _BAR_PART, 40) * um_per_px)
        text, length = _length_text(length_um), round(length_um / um_per_px)
    width = length + (_GAP_PX if length else 0) + math.ceil(font(_SMALL_PX).getlength(text))
    image = Image.new("RGB", (width, 22), PAPER)
    draw = ImageDraw.Draw(image)
    if length:
        draw.rectangle((0, 9, length - 1, 13), INK)
    draw.text((width, 11), text, INK if length else MUTED, font(_SMALL_PX), anchor="rm")
    return image


def _round_length(at_most: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not larger."""
    power = 10.0 ** math.floor(math.log10(at_most))
    return power * max(factor for factor in (1, 2, 5) if factor * power <= at_most)


def _length_text(length_um: float) -> str:
    return f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
