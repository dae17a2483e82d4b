"""Discovery: what is rising in each niche, observed through the platforms' own APIs."""
