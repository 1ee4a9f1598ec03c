"""Whole slides: which parts are tissue, the tiles on them, and from the tiles' answers to the slide's."""
