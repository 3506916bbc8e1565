"""What happens when in a video."""
