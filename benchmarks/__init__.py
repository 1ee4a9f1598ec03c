"""Measurements. Each prints ratios taken in one run, because machines are noisy; figures stand in RESULTS.md."""
