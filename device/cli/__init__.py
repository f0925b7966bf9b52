"""The command line of ``device.client``: flags, a run over many images, the report."""
