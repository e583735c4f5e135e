"""Schedule, guidance and the denoising loop."""
