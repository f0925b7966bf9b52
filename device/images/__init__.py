"""What the user wants classified: files, folders, arrays and standard input become images."""
