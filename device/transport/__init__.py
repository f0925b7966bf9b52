"""The way to the cloud: channels, one stream at a time, reconnection and back-off."""
