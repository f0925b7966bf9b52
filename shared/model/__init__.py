"""What a model is without torch: architecture, bundle file, packed bits, exit calibration."""
