"""What a task is: declared functions, registries, policies, plugins."""
