"""The playground: a page on which a browser is the device, and its link to a cloud server.

The page's files are in ``static``; ``make web`` adds the compiled device half there.
"""
