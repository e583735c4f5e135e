"""Many shots on many machines: Ray on one's own, OpenJD templates for any farm. See docs/farm.md."""
