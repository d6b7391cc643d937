"""What makes a dataset like those of practice: functions from one `Data` to another."""
