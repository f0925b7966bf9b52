"""Admission, fair micro-batches and the level controller: when and at which level requests run."""
