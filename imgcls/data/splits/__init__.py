"""Which picture goes where: assignments, groups that stay together, splits as recorded."""
