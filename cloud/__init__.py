"""The cloud half: server and, in ``training``, everything that makes a model bundle."""
