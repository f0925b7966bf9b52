"""Training, data sets and export. Needs the extra ``train`` (torch)."""
