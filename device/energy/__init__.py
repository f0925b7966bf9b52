"""Physics: batteries, chargers and clocks. A leaf; what work costs is in ``shared.energy``."""
