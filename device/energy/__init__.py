"""Physics: hardware constants, energy of a sample, batteries, chargers and clocks. A leaf."""
