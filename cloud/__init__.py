"""The cloud half: the server, the fleet's client and, in ``training``, the making of bundles."""
