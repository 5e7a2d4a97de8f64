"""Every order of calls, on the scripts that are shipped."""
