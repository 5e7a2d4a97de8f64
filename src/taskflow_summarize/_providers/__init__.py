"""Who summarises: one module for each provider."""
