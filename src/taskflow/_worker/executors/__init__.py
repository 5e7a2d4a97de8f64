"""Ways to run a claim; each fulfils the contract in ``executor.py``."""
