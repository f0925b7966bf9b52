"""What computing and sending cost on named kinds of hardware: constants and a model of them."""
