"""Reading images: IDX arrays, and pictures by Pillow."""
