"""What `train.py` does around the jobs, in the process that was started alone."""
