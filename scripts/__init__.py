"""Commands beside `train.py`, and what its own command line needs before a job begins."""
