"""Datasets as `Data`, and the data module that splits them into labelled and pool."""
