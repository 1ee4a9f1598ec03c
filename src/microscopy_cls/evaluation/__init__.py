"""Figures that can be believed: metrics, intervals, the bundle made from a run."""
