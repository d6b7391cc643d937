"""From run directories to curves and tables."""
