"""Image classifiers whose numbers you can believe."""

__version__ = "0.1.0"
