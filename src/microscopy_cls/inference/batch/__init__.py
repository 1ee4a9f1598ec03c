"""Classify many inputs overnight: readers that may crash, an engine that does not wait, a journal that survives.

Nothing is imported here: each reading process imports this package, and should start quickly.
"""
