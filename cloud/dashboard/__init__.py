"""A page to watch a fleet and to set what it should do; needs the extra ``dashboard``."""
