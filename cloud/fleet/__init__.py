"""The fleet's controller: receives what devices say, tells them what to do, runs scenarios."""
