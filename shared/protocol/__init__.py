"""The split protocol: messages as plain values, and the codec of the features that travel."""
