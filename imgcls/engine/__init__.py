"""How training happens: the loop, its parts, their state, and what is saved."""
