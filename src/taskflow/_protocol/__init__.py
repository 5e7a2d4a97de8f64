"""How a task moves: operations as values, their scripts, and nothing that sends them."""
