"""Policies: choose the device level of samples from charge, conditions and goals."""
