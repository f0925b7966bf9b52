"""Other servers with a float network of our accuracy, each in an environment of its own.

``environments`` installs them below the user's cache folder, ``network`` trains the network once
and keeps it there. The two programs run in those environments, without anything of this
repository.
"""
