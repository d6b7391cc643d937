"""The published claims that `scripts/claims.py` runs again."""
