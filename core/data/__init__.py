"""Training data: generated clips with exact alpha (`engine`) and layered video read from disk (`datasets`)."""
