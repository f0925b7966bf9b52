"""Who may call, and how much: TLS, tokens, limits by client, the gate."""
