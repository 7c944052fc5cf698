"""How figures are drawn: style, layout, legends, legibility."""
