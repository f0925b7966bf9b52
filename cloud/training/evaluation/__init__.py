"""What a bundle is worth on a data set: measured with the runtime that users run, as one page."""
