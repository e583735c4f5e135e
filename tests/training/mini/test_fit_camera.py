"""A camera fitted to mini's codec measures the motion of plates."""

import random

import torch

from vera.core.data.engine import plates
from vera.core.model.mini.camera import Camera
from vera.core.model.names import EMBEDDED
from vera.core.training.mini.fit_camera import fit_camera
from vera.core.training.mini.transformer_training import load_codec


def test_a_fitted_camera_measures_pans_of_new_plates():
    """The plates are not those of the fit; they move half a pixel per frame behind a subject."""
    codec = load_codec(EMBEDDED)
    camera = Camera(codec.coarse)
    fit_camera(camera, codec, 1_000, count=60)
    times, errors = torch.arange(8.0), []
    for seed in range(12):
        rng, gen = random.Random(seed), torch.Generator().manual_seed(seed)
        offsets, zoom = plates.camera_at_rest(times)
        offsets[:, 0], offsets[:, 1] = times * rng.choice((-0.006, 0.006)), times * rng.uniform(-0.003, 0.003)
        frames = plates.view(plates.scenery(rng, gen, 112, 200), offsets, zoom, 80, 144)
        matte, color, _ = plates.subject(rng, gen, times, 80, 144)
        with torch.inference_mode():
            latents = codec.encode_groups((frames + (color - frames) * matte).transpose(0, 1)[None])
            read = camera(latents[:, :, 0], latents[:, :, 1])[0]
        errors.append(torch.stack([(read[:2] - 2 * (offsets[0] - offsets[4])).norm(), read[2].abs()]))
    median = torch.stack(errors).median(0).values
    assert median[0] < 0.004 and median[1] < 0.004  # of moves of 0.05
