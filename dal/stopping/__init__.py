"""Criteria that end a run before its rounds are used up: one file, one function each."""
