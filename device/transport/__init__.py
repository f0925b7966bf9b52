"""The connection to the cloud: channels, streams, reconnection and back-off."""
