"""The split protocol: its messages as plain values, and the codec of payloads."""
