"""Which request runs when and at which level: admission, batches, the level controller."""
