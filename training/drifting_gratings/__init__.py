"""A small ViViT that tells how stripes drift: trained weights for docs/quantisation.md."""
