"""What binds the rooms to Dagster: table assets, resources, retries by kind of failure, names and sizes of runs."""
