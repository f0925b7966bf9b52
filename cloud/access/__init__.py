"""Access control: TLS certificates, bearer tokens, limits for each client, draining."""
