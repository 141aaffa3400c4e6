"""Made-up landscapes and clouds, of which the truth is known."""
