"""Schedules, sensors, jobs and how failures are retried: what runs when, on top of every room."""
