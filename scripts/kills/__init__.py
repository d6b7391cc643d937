"""Parts of scripts/kill_runs.py."""
