"""Server processes: assembling one from its parts, and supervising several."""
