"""What runs there are, what is in one, how two differ, and what of them can go."""
