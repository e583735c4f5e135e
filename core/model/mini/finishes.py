"""Colours and materials that mini's layers do not know, and its drawn objects do.

The transformer is given the nearest colour that it was taught; a thing that is drawn as a shape is painted as the word
says.
"""

from vera.core.model.named import Finish

WOOD, METAL = "wood", "metallic"

FINISHES = {  # display-encoded sRGB
    word: Finish(color, material, texture)
    for words, color, material, texture in (
        ("gold golden", (0.95, 0.69, 0.17), METAL, None),
        ("brass", (0.84, 0.69, 0.34), METAL, None),
        ("silver chrome", (0.82, 0.83, 0.85), METAL, None),
        ("steel", (0.62, 0.64, 0.67), METAL, None),
        ("bronze", (0.62, 0.43, 0.22), METAL, None),
        ("copper", (0.80, 0.46, 0.32), METAL, None),
        ("wooden wood", (0.60, 0.40, 0.22), None, WOOD),
        ("brown chestnut", (0.40, 0.24, 0.12), None, None),
        ("tan cardboard", (0.72, 0.55, 0.36), None, None),
        ("terracotta", (0.76, 0.40, 0.27), None, None),
        ("grey gray", (0.50, 0.50, 0.50), None, None),
        ("concrete stone", (0.60, 0.59, 0.57), None, None),
        ("charcoal", (0.20, 0.20, 0.21), None, None),
        ("beige cream ivory", (0.90, 0.85, 0.73), None, None),
        ("crimson ruby cherry", (0.72, 0.06, 0.16), None, None),
        ("maroon burgundy", (0.45, 0.06, 0.12), None, None),
        ("lime", (0.55, 0.85, 0.15), None, None),
        ("olive", (0.45, 0.46, 0.14), None, None),
        ("emerald", (0.07, 0.55, 0.35), None, None),
        ("mint", (0.62, 0.90, 0.75), None, None),
        ("turquoise", (0.18, 0.78, 0.74), None, None),
        ("teal", (0.05, 0.47, 0.48), None, None),
        ("navy", (0.07, 0.11, 0.36), None, None),
        ("lavender lilac", (0.74, 0.64, 0.88), None, None),
        ("magenta fuchsia", (0.86, 0.12, 0.60), None, None),
        ("salmon peach", (0.97, 0.62, 0.50), None, None),
        ("amber", (0.94, 0.62, 0.10), None, None),
    )
    for word in words.split()
}
