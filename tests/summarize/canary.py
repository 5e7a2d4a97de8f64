"""A key that must be seen by nobody but the provider."""

KEY = "sk-or-v1-canary-5150"
