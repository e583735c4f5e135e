"""`python -m benchmarks.edges PICTURE.png`: measure edges against a known truth, before and after refinement.

The scene is synthetic: a body with thin hair and motion blur before a bright wall, 4.5 times the model's size (480p to
2160p). "Before" is bilinear alpha with decoded colour. "After" is the result of the delivery's steps.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from tests.layer import scenes
from vera.core.layer.foreground import clean_color
from vera.core.layer.matte import clean_alpha, refine_alpha
from vera.core.plate.fit import shrink
from vera.kernels.plate_size import plate_color
from vera.kernels.subject import free_subject

PLATES = [(0.05, 0.05, 0.06), (0.9, 0.9, 0.9), (0.2, 0.6, 0.2), (0.15, 0.2, 0.5), (0.5, 0.45, 0.4)]


def main():
    parser = argparse.ArgumentParser(prog="benchmarks.edges", description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path, nargs="?")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures, rows = {"alpha within 20 pixels, kinds of edges": kinds_of_edges()}, []
    for name, make in (("kept subject", kept_subject), ("added object", added_object)):
        figures[name], pictures = make()
        rows.append(pictures)
    print(json.dumps(figures, indent=2))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    if args.picture:
        sheet(rows).save(args.picture, optimize=True)


def kept_subject():
    """A new background behind a kept subject: its edge is in the plate."""
    m = scenes.subject()
    colors = [(0.35, 0.2, 0.15), (0.62, 0.72, 0.82), (0.1, 0.16, 0.12)]
    own, old, new = (scenes.texture(color, seed) for seed, color in enumerate(colors))
    grain = 0.008 * np.random.default_rng(3).standard_normal(own.shape)
    plate = (lay(own, m, old) + grain).clip(0, 1).astype(np.float32)
    alpha, wanted = scenes.decoded(1 - m), lay(own, m, new)
    matte, kept = at_plate_size(alpha, plate)
    edit, raised = free_subject(torch.from_numpy(new), matte, kept, torch.from_numpy(plate))
    before = lay(new, scenes.plain(alpha), plate)
    after = lay(edit.numpy(), raised.numpy(), plate)
    clear = (m > 0.02) & (m < 0.98)
    figures = edge_errors(matte, alpha, 1 - m) | {
        "residue before": error(before, wanted, clear),
        "residue after": error(after, wanted, clear),
    }
    figures["residue ratio"] = round(figures["residue after"] / figures["residue before"], 3)
    return figures, {"plate": plate, "before": before, "after": after, "truth": wanted}


def added_object():
    """An added object, its decoded colour mixed with what was behind it: over a plate it was not made for."""
    m = scenes.subject()
    own, behind = scenes.texture((0.7, 0.25, 0.15), 0), scenes.texture((0.55, 0.75, 0.6), 1)
    color, alpha = scenes.decoded(lay(own, m, behind)), scenes.decoded(m)
    planes = torch.from_numpy(color).movedim(-1, 0)
    matte, _ = at_plate_size(alpha, behind)
    clean = plate_color(clean_color(planes, torch.from_numpy(alpha)).movedim(0, -1), torch.ones(scenes.PLATE)).numpy()
    edge, plain = scenes.at_edges(m), scenes.plain(color)
    plates = [np.float32(p) for p in PLATES]
    halos = [np.mean([error(lay(c, m, p), lay(own, m, p), edge) for p in plates]) for c in (plain, clean)]
    dark = np.broadcast_to(np.float32(PLATES[0]), own.shape)
    before, after = lay(plain, scenes.plain(alpha), dark), lay(clean, matte.numpy(), dark)
    near = scenes.at_edges(m, 20)
    small_own, small_behind = scenes.boxed(own, scenes.MODEL), scenes.boxed(behind, scenes.MODEL)
    way = small_own - small_behind
    told = (((color - small_behind) * way).sum(-1) / (way * way).sum(-1)).clip(0, 1)  # alpha, by composite and edit
    bounds = {"exact at model size": scenes.boxed(m, scenes.MODEL), "of colours": told, "both": (alpha + told) / 2}
    found = {n: error(at_plate_size(a.astype(np.float32), behind)[0].numpy(), m, near) for n, a in bounds.items()}
    figures = (
        edge_errors(matte, alpha, m)
        | {"alpha within 20 pixels, from another alpha": found}
        | {
            "halo before": round(float(halos[0]), 5),
            "halo after": round(float(halos[1]), 5),
            "halo ratio": round(float(halos[1] / halos[0]), 3),
        }
    )
    return figures, {"decoded, enlarged": plain, "before": before, "after": after, "truth": lay(own, m, dark)}


def kinds_of_edges():
    """Alpha's mean errors, bilinear's and ours: edges with and without hair and motion blur, in the plate and new."""
    own, old = scenes.texture((0.35, 0.2, 0.15), 0), scenes.texture((0.62, 0.72, 0.82), 1)
    grain, found = 0.008 * np.random.default_rng(3).standard_normal(own.shape), {}
    for hair, blur in itertools.product((False, True), repeat=2):
        m = scenes.subject(hair, blur)
        for name, truth, plate in (("in the plate", 1 - m, lay(own, m, old)), ("new", m, old)):
            alpha, near = scenes.decoded(truth), scenes.at_edges(m, 20)
            ours = at_plate_size(alpha, (plate + grain).clip(0, 1).astype(np.float32))[0].numpy()
            kind = name + ", hair" * hair + ", blur" * blur
            found[kind] = error(scenes.plain(alpha), truth, near), error(ours, truth, near)
    return found | {"mean": tuple(round(float(e), 5) for e in np.mean(list(found.values()), 0))}


def at_plate_size(alpha, plate):
    plate, alpha = torch.from_numpy(plate), clean_alpha(torch.from_numpy(alpha))
    return refine_alpha(alpha, shrink(plate, alpha.shape[1], alpha.shape[0]), plate)


def edge_errors(found, alpha, truth):
    """Mean errors of alpha at the edge, and within so many plate pixels of it that bilinear comes near 42e-3."""
    figures = {}
    for reach in (6, 20):
        near = scenes.at_edges(truth, reach)
        before, after = error(scenes.plain(alpha), truth, near), error(found.numpy(), truth, near)
        figures[f"alpha within {reach} pixels"] = {"bilinear": before, "ours": after, "ratio": round(after / before, 3)}
    return figures


def lay(color, alpha, plate):
    return alpha[..., None] * color + (1 - alpha[..., None]) * plate


def error(image, truth, where):
    return round(float(np.abs(image - truth)[where].mean()), 5)


def sheet(rows):
    """A row a scene, cut where hair and blur are, twice as large."""
    top, left, height, width = 20, 140, 120, 150
    picture = Image.new("RGB", (4 * (2 * width + 8) + 8, len(rows) * (2 * height + 28)), (24, 24, 24))
    draw = ImageDraw.Draw(picture)
    for y, images in enumerate(rows):
        for x, (name, image) in enumerate(images.items()):
            part = np.rint(image[top : top + height, left : left + width].clip(0, 1) * 255).astype(np.uint8)
            place = (8 + x * (2 * width + 8), 20 + y * (2 * height + 28))
            draw.text((place[0], place[1] - 15), name, fill=(210, 210, 210))
            picture.paste(Image.fromarray(part).resize((2 * width, 2 * height), Image.NEAREST), place)
    return picture


if __name__ == "__main__":
    main()
