"""Who asks: the client and its control surface."""
