"""The deployment in real containers: ``make containers``.

``python -m tests.containers`` finds a container engine or starts one of its own, builds the images
and runs the tests of this folder; elsewhere they are skipped.
"""
