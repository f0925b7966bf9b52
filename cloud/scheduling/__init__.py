"""Running jobs: the event loop's side of the scheduler and the thread that computes batches."""
