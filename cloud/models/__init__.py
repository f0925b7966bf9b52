"""Models that are served.

Bundles in memory, their versions, the folder they come from, their cost.
"""
