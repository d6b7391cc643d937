"""Lightning callbacks and round logs."""
