"""Training: mini's codec, transformer and text encoder (`mini`), and full-size models (`full`)."""
