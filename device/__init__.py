"""The device half: client, battery, policy and the link to the cloud. Never imports torch."""
