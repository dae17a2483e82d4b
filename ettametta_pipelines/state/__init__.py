"""The relational state: what needs transactions. Tables of rows that are only ever read whole live in the lake."""
