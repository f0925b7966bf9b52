"""The fleet's contract over MQTT: messages, their JSON, the broker connection, scenarios."""
