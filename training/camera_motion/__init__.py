"""How the bundled `camera-motion` model is made: data, training, evaluation. See README.md beside it."""
