"""The cage in which every program runs that touches files from strangers: limits, walls, and the launcher inside."""
