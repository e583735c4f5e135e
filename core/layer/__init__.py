"""From decoded layers to delivered files."""
