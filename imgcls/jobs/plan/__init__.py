"""From Config to Plan: everything that `auto` stands for."""
