"""Public sets: where they are, what is known of them, and how each comes to lie as its config expects."""

from microscopy_cls.dataset.catalogue.entry import Entry, find_entry, load_catalogue
from microscopy_cls.dataset.catalogue.fetch import Fetched, fetch

__all__ = ["Entry", "Fetched", "fetch", "find_entry", "load_catalogue"]
