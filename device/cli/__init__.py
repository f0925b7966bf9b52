"""The command line of ``device.client``: flags in, one run over many images, a report out."""
