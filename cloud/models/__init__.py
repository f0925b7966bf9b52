"""Models that are served: bundles in memory, their versions, the folder that holds their files."""
