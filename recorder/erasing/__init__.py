"""The parts of `make forget` (recorder/forget.py): find what there is of somebody, say it, remove it, search again."""
