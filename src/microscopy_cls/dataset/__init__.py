"""From files to batches: manifest, duplicates, folds, pixel cache, augmentation."""
