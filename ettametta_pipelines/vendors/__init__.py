"""Plain clients of outside services, one file each: no Dagster, no domain, no `os.environ`."""
