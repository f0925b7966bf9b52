"""One device of a fleet: classifies at a set rate, reports over MQTT, applies desired state."""
