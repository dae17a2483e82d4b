"""Upkeep: what keeps the stored tables quick to query. Adds no data of its own."""
