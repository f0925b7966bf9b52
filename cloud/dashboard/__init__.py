"""A web page to watch a fleet and change its settings; needs the extra ``dashboard``."""
