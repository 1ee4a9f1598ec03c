"""A slide's tiles by class over its thumbnail: one picture that says where the answer comes from."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from microscopy_cls.inference.slides.legend import INK, MARGIN, PAPER, RULE, font, legend, scale_bar, shortened
from microscopy_cls.inference.slides.palette import NUM_DISTINCT, Colour, class_colours
from microscopy_cls.inference.slides.tiles import BOX

PICTURE_PX = 1200  # longer side of the slide in the picture
_WIDE = 1.5  # proportions from which on the legend stands below
_LEAST_LEGEND_PX = 420  # width of a legend below a narrow, small or empty slide
_OPACITY = (0.25, 0.75)  # of a tile that is as unsure as a guess, and of one that is certain
_GREYED = 0.75  # the slide keeps a quarter of its colours, which would mix with those of the classes
_TITLE_PX, _TEXT_PX, _NUMBER_PX = 28, 18, 13
_NUMBER_EVERY_PX = 72  # a class's number stands once in a square of this side
_NUMBER_ROOM_PX = 24  # and no two numbers in one of this side


def draw_heatmap(
    thumbnail: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    grid: pd.DataFrame,
    probs: NDArray[np.float64],
    classes: Sequence[str],
    shares: NDArray[np.float64],
    *,
    slide_px: tuple[int, int],
    um_per_px: float | None,
    title: str,
    subtitle: str,
) -> bytes:
    """Draw each tile in its class's colour, the more opaque the more confident, with a legend and a scale.

    The tissue's edge is drawn, so that what was skipped can be seen. Where tiles overlap, colours are averaged. From
    eight classes on colours alone do not tell them apart: numbers on the tiles repeat those of the legend.

    Args:
        thumbnail: the whole slide, uint8 (h, w, 3).
        mask: its tissue, bool (h, w), of any size.
        grid: tiles with `x_px, y_px, width_px, height_px` in level 0; may be empty.
        probs: (tiles, classes).
        classes: names in index order.
        shares: (classes,), how much of the tissue each class has, for the legend.
        slide_px: width and height of level 0.
        um_per_px: of level 0; None leaves the scale out.
        title: the slide's name.
        subtitle: its answer.

    Returns:
        The PNG file's bytes.
    """
    scale = PICTURE_PX / max(slide_px)
    size = (max(1, round(slide_px[0] * scale)), max(1, round(slide_px[1] * scale)))
    colours = class_colours(len(classes))
    boxes = _scaled_boxes(grid, scale, size)
    picture = _painted(_greyed(thumbnail, size), boxes, probs, colours)
    _draw_outline(picture, mask)
    if len(classes) > NUM_DISTINCT:
        _draw_numbers(picture, boxes, probs.argmax(axis=1))
    is_wide = size[0] > _WIDE * size[1]
    room = (max(size[0], _LEAST_LEGEND_PX), None) if is_wide else (None, size[1])
    key = legend(classes, colours, shares, _OPACITY, *room)
    bar = scale_bar(None if um_per_px is None else um_per_px / scale, size[0])
    page = _composed(picture, key, bar, title, subtitle, is_wide=is_wide)
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _greyed(thumbnail: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """The thumbnail at the picture's size with paler colours, float32 (h, w, 3)."""
    image = Image.fromarray(thumbnail).resize(size, Image.Resampling.LANCZOS)
    grey = image.convert("L").convert("RGB")
    return np.asarray(Image.blend(image, grey, _GREYED), np.float32)


def _scaled_boxes(grid: pd.DataFrame, scale: float, size: tuple[int, int]) -> NDArray[np.int64]:
    """Left, top, right and bottom (tiles, 4) in the picture, at least one pixel each."""
    x, y, width, height = grid[BOX].to_numpy(np.float64).T
    corners = np.rint(np.stack([x, y, x + width, y + height], axis=1) * scale).astype(np.int64)
    corners[:, :2] = np.minimum(corners[:, :2], np.array(size) - 1)
    corners[:, 2:] = np.clip(corners[:, 2:], corners[:, :2] + 1, size)
    return corners


def _painted(
    picture: NDArray[np.float32], boxes: NDArray[np.int64], probs: NDArray[np.float64], colours: list[Colour]
) -> Image.Image:
    """The picture under its tiles."""
    paint = np.zeros((*picture.shape[:2], 4), np.float32)  # colour times opacity, and opacity, summed over tiles
    cover = np.zeros(picture.shape[:2], np.float32)  # number of tiles
    chance = 1 / probs.shape[1]
    confidence = np.clip((probs.max(axis=1, initial=0) - chance) / max(1 - chance, 1e-9), 0, 1)
    opacity = _OPACITY[0] + (_OPACITY[1] - _OPACITY[0]) * confidence
    inks = np.array([(*colour, 1) for colour in colours], np.float32)[probs.argmax(axis=1)]
    for (left, top, right, bottom), ink, alpha in zip(boxes, inks, opacity, strict=True):
        paint[top:bottom, left:right] += ink * np.float32(alpha)
        cover[top:bottom, left:right] += 1
    paint /= np.maximum(cover, 1)[..., None]
    mixed = picture * (1 - paint[..., 3:]) + paint[..., :3]
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def _draw_outline(picture: Image.Image, mask: NDArray[np.bool_]) -> None:
    """Draw the edge of the tissue."""
    enlarged = Image.fromarray(mask.astype(np.uint8) * 255).resize(picture.size, Image.Resampling.BILINEAR)
    tissue = enlarged.point(lambda value: 255 if value > 127 else 0)
    inner = tissue.filter(ImageFilter.MinFilter(3))
    edge = np.asarray(tissue) > np.asarray(inner)
    picture.paste(INK, mask=Image.fromarray(edge.astype(np.uint8) * 200))


def _draw_numbers(picture: Image.Image, boxes: NDArray[np.int64], predicted: NDArray[np.intp]) -> None:
    """Write the numbers of classes, counted from 1, here and there on their tiles."""
    draw, text = ImageDraw.Draw(picture), font(_NUMBER_PX)
    told: set[tuple[int, ...]] = set()
    for (left, top, right, bottom), index in zip(boxes.tolist(), predicted.tolist(), strict=True):
        x, y = (left + right) // 2, (top + bottom) // 2
        square = (x // _NUMBER_EVERY_PX, y // _NUMBER_EVERY_PX, index)
        room = (x // _NUMBER_ROOM_PX, y // _NUMBER_ROOM_PX)
        if square not in told and room not in told:
            told |= {square, room}
            draw.text((x, y), str(index + 1), INK, text, anchor="mm", stroke_width=2, stroke_fill=PAPER)


def _composed(
    picture: Image.Image, key: Image.Image, bar: Image.Image, title: str, subtitle: str, *, is_wide: bool
) -> Image.Image:
    """Title, picture, scale, and the legend beside or below."""
    top = MARGIN + _TITLE_PX + 10 + _TEXT_PX + MARGIN // 2 + 6
    below = top + picture.height + 10
    beside, under = (2 * MARGIN + max(picture.width, bar.width), top), (MARGIN, below + bar.height + MARGIN)
    place = under if is_wide else beside
    width = max(MARGIN + picture.width, MARGIN + bar.width, place[0] + key.width) + MARGIN
    height = max(below + bar.height, place[1] + key.height) + MARGIN
    page = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(page)
    for text, size, y in ((title, _TITLE_PX, MARGIN), (subtitle, _TEXT_PX, MARGIN + _TITLE_PX + 10)):
        draw.text((MARGIN, y), shortened(text, font(size), width - 2 * MARGIN), INK, font(size))
    draw.rectangle((MARGIN - 1, top - 1, MARGIN + picture.width, top + picture.height), outline=RULE)
    page.paste(picture, (MARGIN, top))
    page.paste(bar, (MARGIN, below))
    page.paste(key, place)
    return page
