"""Fine-tuning: one fold, k folds, and going on where it stopped."""
