"""Roll-outs: giving a new model to devices in waves, each compared with a control group.

``record`` holds the data, ``core`` and ``sequential`` decide, ``driver`` carries the decisions out,
``ledger`` stores them, ``commands`` are the command lines.
"""
