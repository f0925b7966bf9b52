"""Other servers with a float network of our accuracy, each in an environment of its own.

``environments`` installs them below the user's cache folder; ``network`` trains the network once
and stores it there. The two server programs run in those environments and import nothing from
this repository.
"""
