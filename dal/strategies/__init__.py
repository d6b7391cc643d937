"""Acquisition strategies: one file, one public function, one YAML each."""
