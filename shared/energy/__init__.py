"""The energy of computing and sending on named kinds of hardware: constants and a model."""
