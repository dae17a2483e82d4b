"""ettametta_pipelines: from rising trend to booked revenue, as Dagster assets."""
