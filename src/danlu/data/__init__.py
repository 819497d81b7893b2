"""Examples to batches: split and manifest, decoded images, augmentation, batches in an order that is f(seed, epoch)."""
