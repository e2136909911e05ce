"""From tokens as they come to text, stop strings, thought and answer. Knows no model and no batch."""
