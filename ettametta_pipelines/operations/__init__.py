"""Operations: what the whole runs on and how much of it is left."""
