"""The contract of a device fleet over MQTT."""
