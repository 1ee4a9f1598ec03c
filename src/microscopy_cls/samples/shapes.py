"""Plane geometry for drawing: centre lines, outlines, and the masks they fill."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]  # (h, w)
Points = NDArray[np.float64]  # (n, 2), x then y, px
Size = tuple[int, int]  # (h, w), px

SUBPIXEL_BITS = 4  # OpenCV's fixed point: sixteenths of a pixel


def filled(size: Size, outlines: Sequence[Points]) -> Plane:
    """The union of closed outlines, antialiased, 0 to 1."""
    mask = np.zeros(size, np.uint8)
    for outline in outlines:
        cv2.fillPoly(mask, [_fixed(outline)], 255, cv2.LINE_AA, SUBPIXEL_BITS)
    return _unit(mask)


def stroked(size: Size, lines: Sequence[Points], width_px: float, closed: bool = False) -> Plane:
    """Lines of one width (whole px, at least 1; what is missing to 1 px becomes paleness), 0 to 1."""
    mask = np.zeros(size, np.uint8)
    fixed = [_fixed(line) for line in lines]
    cv2.polylines(mask, fixed, closed, 255, max(1, round(width_px)), cv2.LINE_AA, SUBPIXEL_BITS)
    return _unit(mask) * np.float32(min(1.0, width_px))


def rounded(mask: Plane, radius_px: float) -> Plane:
    """Thickness of a body with round edges: 0 at the rim of `mask`, 1 from `radius_px` inwards."""
    depth = np.clip(depth_px(mask) / np.float32(radius_px), 0, 1)
    thickness: Plane = np.sqrt(1 - (1 - depth) ** 2)
    return thickness


def depth_px(mask: Plane) -> Plane:
    """Distance of each pixel inside `mask` to its rim."""
    depth: Plane = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    return depth


def smoothed(plane: Plane, sigma_px: float) -> Plane:
    """Gaussian blur; a sigma near 0 changes nothing."""
    return plane if sigma_px < 0.1 else cv2.GaussianBlur(plane, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE)


def melted(mask: Plane, sigma_px: float) -> Plane:
    """The mask with corners and notches rounded off, as surface tension would."""
    rounder: Plane = np.clip((smoothed(mask, sigma_px) - 0.5) * np.float32(sigma_px) + 0.5, 0, 1)
    return rounder


def clouds(size: Size, grain_px: float, rng: np.random.Generator) -> Plane:
    """Smooth noise of mean about 0 and deviation about 1, whose lumps are about `grain_px` wide."""
    height, width = (int(side / grain_px) + 3 for side in size)
    coarse = rng.standard_normal((height, width), np.float32)
    fine: Plane = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return fine


def ellipse(centre: Points, half_length: float, half_width: float, angle: float = 0.0, num: int = 40) -> Points:
    """Outline of an ellipse; `angle` in radians turns its long axis."""
    turn = np.linspace(0, 2 * np.pi, num, endpoint=False)
    return placed(np.stack([half_length * np.cos(turn), half_width * np.sin(turn)], 1), angle, centre)


def wobbly(centre: Points, radius: float, roughness: float, rng: np.random.Generator, num: int = 72) -> Points:
    """Outline of an irregular blob: a circle with a few random harmonics of relative height `roughness`."""
    turn = np.linspace(0, 2 * np.pi, num, endpoint=False)
    waves = sum(rng.normal(0, roughness / k) * np.cos(k * turn + rng.uniform(0, 2 * np.pi)) for k in range(2, 6))
    reach = radius * (1 + waves)
    return np.stack([reach * np.cos(turn), reach * np.sin(turn)], 1) + centre


def centre_line(length: float, bend: float, num: int = 40, wave: tuple[float, float, float] = (0, 1, 0)) -> Points:
    """A line along x, its middle at the origin.

    Args:
        length: of the line, px.
        bend: the angle between its two ends, radians.
        num: points.
        wave: amplitude (px), wavelength (px) and phase (radians) of a sideways wave.
    """
    along = np.linspace(-0.5, 0.5, num)
    heading = bend * along
    step = length / (num - 1)
    line = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * step, axis=0)
    line -= line.mean(axis=0)
    amplitude, wavelength, phase = wave
    sideways = amplitude * np.sin(2 * np.pi * along * length / wavelength + phase)
    return line + normals(line) * sideways[:, None]


def tube(line: Points, half_widths: NDArray[np.float64] | float) -> Points:
    """Outline of a body around a centre line, with round ends where the half-width there is not 0."""
    widths = np.broadcast_to(np.asarray(half_widths, float), (len(line),))
    side = normals(line) * widths[:, None]
    return np.concatenate([line + side, _cap(line[-1], side[-1]), (line - side)[::-1], _cap(line[0], -side[0])])


def normals(line: Points) -> Points:
    """Unit normals along a line."""
    tangent = np.gradient(line, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    return np.stack([-tangent[:, 1], tangent[:, 0]], 1)


def placed(points: Points, angle: float, centre: Points) -> Points:
    """Turn about the origin by `angle` (radians), then move to `centre`."""
    cos, sin = np.cos(angle), np.sin(angle)
    moved: Points = points @ np.array([[cos, sin], [-sin, cos]]) + centre
    return moved


def _cap(end: Points, side: Points, num: int = 7) -> Points:
    """Half a circle from `end + side` to `end - side`, turning clockwise about `end`."""
    turn = -np.linspace(0, np.pi, num)[1:-1]
    return np.stack([placed(side[None], angle, end)[0] for angle in turn])


def _fixed(points: Points) -> NDArray[np.int32]:
    return np.asarray(np.round(points * 2**SUBPIXEL_BITS), np.int32)


def _unit(mask: NDArray[np.uint8]) -> Plane:
    return mask.astype(np.float32) / np.float32(255)
