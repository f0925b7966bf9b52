"""The playground: a page on which a browser is the device, and its link to a cloud server.

The page's own files are in ``static``; ``make web`` puts the device half beside them.
"""
