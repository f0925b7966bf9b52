"""Read the user's pictures: files, folders, arrays, standard input and live sources."""
