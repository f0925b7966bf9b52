"""Server processes: one assembled from its parts, or several under a supervisor."""
