"""Objects, tables and the lake: everything the project keeps besides relational state. Knows no domain."""
