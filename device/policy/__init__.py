"""Policies: which device level a sample gets, from charge, conditions and goals."""
