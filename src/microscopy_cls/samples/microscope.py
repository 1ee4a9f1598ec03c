"""Light through a specimen: stain, phase, focus, illumination and camera."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from microscopy_cls.samples.shapes import Plane, Points, Size, clouds, smoothed

Light = NDArray[np.float32]  # (h, w, 3) RGB, 1 = the empty field
Picture = NDArray[np.uint8]  # (h, w, 3) RGB

OVERSAMPLING = 2  # specimens are drawn on a finer raster than the camera's

# Absorbance of one unit of dye in red, green and blue. Two slides of ten share a stain.
STAINS = {
    "methylene blue": (1.15, 0.90, 0.60),
    "crystal violet": (1.00, 1.10, 0.65),
    "safranin": (0.65, 1.15, 0.90),
    "haematoxylin": (1.00, 1.05, 0.80),
    "iodine": (0.70, 0.95, 1.10),
}


@dataclass
class Specimen:
    """What lies on the glass, on a raster `OVERSAMPLING` times finer than the picture.

    Attributes:
        dye: amount of stain taken up, (h, w), 0 = none.
        pigment: absorbance of its own colours, (h, w, 3) RGB.
        phase: optical thickness, (h, w), 1 = a typical cell.
        unit: raster px per unit of length (one unit is one px of a picture at scale 1).
        centres: box in which individuals may be centred: low corner, high corner, (2, 2), raster px.
        taken: centres given out by `free_spot`.
    """

    dye: Plane
    pigment: Light
    phase: Plane
    unit: float
    centres: Points
    taken: list[Points] = field(default_factory=list)

    @property
    def size(self) -> Size:
        """Height and width of the raster, px."""
        return self.dye.shape[0], self.dye.shape[1]

    def add(
        self, mask: Plane, dye: float = 0.0, phase: float = 0.0, pigment: tuple[float, float, float] | None = None
    ) -> None:
        """Add matter where `mask` (0 to 1) is; negative amounts take some away."""
        where = _covered(mask)
        part = mask[where]
        if dye:
            self.dye[where] += np.float32(dye) * part
        if phase:
            self.phase[where] += np.float32(phase) * part
        if pigment:
            self.pigment[where] += part[..., None] * np.array(pigment, np.float32)

    def hollow(self, mask: Plane, phase: float = 0.5) -> None:
        """Make a vacuole of `mask`: hardly any colour is left, and the missing matter gives it a rim."""
        where = _covered(mask)
        kept = 1 - np.float32(0.8) * mask[where]
        self.dye[where] *= kept
        self.pigment[where] *= kept[..., None]
        self.phase[where] -= np.float32(phase) * mask[where]

    def spot(self, rng: np.random.Generator) -> Points:
        """A random centre for an individual."""
        return np.asarray(rng.uniform(self.centres[0], self.centres[1]))

    def free_spot(self, rng: np.random.Generator, num_tries: int = 8) -> Points:
        """A centre for a large individual: of a few random ones, the farthest from those given before (Mitchell)."""
        tries = [self.spot(rng) for _ in range(num_tries if self.taken else 1)]
        chosen = max(
            tries, key=lambda spot: min((float(np.hypot(*(spot - other))) for other in self.taken), default=0.0)
        )
        self.taken.append(chosen)
        return chosen


def _covered(mask: Plane) -> tuple[slice, slice]:
    """The box of what `mask` covers: most bodies are small beside the raster."""
    x, y, width, height = cv2.boundingRect((mask > 0).view(np.uint8))
    return slice(y, y + height), slice(x, x + width)


def empty_specimen(side_px: int, scale: float, margin: float) -> Specimen:
    """Clean glass for a square picture; `margin` (fraction of the side) keeps centres away from the border."""
    side = side_px * OVERSAMPLING
    size = (side, side)
    box = np.array([[margin, margin], [1 - margin, 1 - margin]]) * side
    planes = np.zeros(size, np.float32), np.zeros((*size, 3), np.float32), np.zeros(size, np.float32)
    return Specimen(*planes, unit=OVERSAMPLING * scale, centres=box)


@dataclass(frozen=True)
class Optics:
    """How one slide was stained, lit, focused and photographed.

    Attributes:
        stain: absorbance of one unit of dye, RGB.
        lamp: colour of the empty field, RGB, 0 to 1.
        exposure: factor on the lamp.
        phase_gain: strength and sign of the bright and dark rims that defocus gives to thick bodies.
        blur_px: sigma of the image's blur.
        noise: standard deviation of the camera's noise at full light, fraction of white.
        vignetting: loss of light in the corners, fraction.
        slope: change of light across the field (x, y), fraction.
        scale: magnification, about 1.
    """

    stain: tuple[float, float, float]
    lamp: tuple[float, float, float]
    exposure: float
    phase_gain: float
    blur_px: float
    noise: float
    vignetting: float
    slope: tuple[float, float]
    scale: float


def slide_optics(index: int, rng: np.random.Generator) -> Optics:
    """The optics of slide `index`; neighbouring slides differ in stain, everything else is drawn."""
    stain = np.array(list(STAINS.values())[index % len(STAINS)]) * rng.uniform(0.93, 1.07, 3)
    warmth, green = rng.uniform(-0.035, 0.035), rng.uniform(-0.012, 0.012)
    return Optics(
        stain=(stain[0], stain[1], stain[2]),
        lamp=(0.94 + warmth, 0.94 + green, 0.94 - warmth),
        exposure=rng.uniform(0.92, 1.02),
        phase_gain=rng.uniform(0.5, 1.0),
        blur_px=rng.uniform(0.4, 0.85),
        noise=rng.uniform(0.006, 0.018),
        vignetting=rng.uniform(0.04, 0.16),
        slope=(rng.uniform(-0.04, 0.04), rng.uniform(-0.04, 0.04)),
        scale=rng.uniform(0.93, 1.08),
    )


def transmitted(specimen: Specimen, optics: Optics, blur_px: float, contrast: float = 1.0) -> Light:
    """The light that passes, at the camera's resolution: 1 where the glass is empty.

    Absorption follows Beer and Lambert. Bodies that only delay light show as rims in proportion to the curvature of
    their thickness (transport of intensity, Teague 1983), reversed from one side of focus to the other.
    """
    absorbance = specimen.dye[..., None] * np.array(optics.stain, np.float32) + specimen.pigment
    rims = cv2.Laplacian(smoothed(specimen.phase, 1.6), cv2.CV_32F, ksize=3)
    rims = np.clip(rims * np.float32(optics.phase_gain), -0.55, 0.55)
    light = np.exp(-contrast * absorbance) * (1 + contrast * rims[..., None])
    height, width = (side // OVERSAMPLING for side in specimen.size)
    return smoothed(cv2.resize(light, (width, height), interpolation=cv2.INTER_AREA), blur_px)


def photographed(light: Light, optics: Optics, rng: np.random.Generator) -> Picture:
    """Light as the camera records it: uneven lamp, shot noise, 8 bits."""
    size = (light.shape[0], light.shape[1])
    seen = light * illumination(size, optics, rng)[..., None] * np.array(optics.lamp, np.float32)
    grain = rng.standard_normal(seen.shape, np.float32) * np.sqrt(np.maximum(seen, 0.02)) * np.float32(optics.noise)
    return to_bytes(seen + grain)


def illumination(size: Size, optics: Optics, rng: np.random.Generator) -> Plane:
    """The lamp's evenness over the field: vignetting about a wandering centre, a slope, faint clouds."""
    y, x = np.meshgrid(np.linspace(-1, 1, size[0]), np.linspace(-1, 1, size[1]), indexing="ij")
    off_x, off_y = rng.normal(0, 0.2, 2)
    fall = 1 - optics.vignetting * ((x - off_x) ** 2 + (y - off_y) ** 2) / 2
    tilt = 1 + optics.slope[0] * x + optics.slope[1] * y
    haze = 1 + 0.008 * clouds(size, min(size) / 5, rng)
    return np.asarray(optics.exposure * fall * tilt * haze, np.float32)


def to_bytes(light: Light) -> Picture:
    """0 to 1 becomes 0 to 255, rounded, clipped."""
    return np.asarray(np.clip(np.rint(light * np.float32(255)), 0, 255), np.uint8)
