"""A command in several processes: how they are started, and what the others do."""
