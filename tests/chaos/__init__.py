"""Chaos: a whole deployment of real programs, bad networks and kill -9, and an audit at the end.

``python -m tests.chaos --seed 7 --seconds 120``. The seed decides what happens when; how far the
programs have come by then is left to the machine.
"""
