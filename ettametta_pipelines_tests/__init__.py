"""Tests, in folders that mirror the rooms of `ettametta_pipelines`."""
