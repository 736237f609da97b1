"""Pictures of an evaluation, by matplotlib: PNG and SVG files, and SVG for an HTML page."""
