"""Scoring: judges candidates, blends the signals into one score and turns the best into creative briefs."""
