"""Demo data, drawn from a seed: organism micrographs, chest-scan phantoms, one whole slide, and planted faults."""

from microscopy_cls.samples.draw import draw_samples

__all__ = ["draw_samples"]
