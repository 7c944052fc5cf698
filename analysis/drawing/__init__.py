"""Drawing of figures: style, layout, legends, legibility."""
