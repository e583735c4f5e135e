"""A kept subject's outline by the plate's colours, from a rough guess."""

import pytest
import torch

from vera.core.layer.subject_colors import SubjectColors, _walked

ROWS, COLUMNS = 60, 100
Y, X = torch.meshgrid(torch.arange(ROWS) + 0.5, torch.arange(COLUMNS) + 0.5, indexing="ij")


def subject(at: float) -> torch.Tensor:
    """A doll: head, body and an arm."""
    head, body = torch.hypot(X - at, Y - 16) < 7, torch.hypot((X - at) / 0.8, Y - 42) < 20
    arm = ((X - at - 20).abs() < 12) & ((Y - 32).abs() < 3)
    return (head | body | arm).float()


def picture(there: torch.Tensor, seed: int, contrast: float = 1.0) -> torch.Tensor:
    """Blue and brown before patches of green and grey, with grain."""
    noise = torch.randn(3, ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed))
    patches = ((X // 11 + Y // 9) % 2)[None]
    behind = torch.lerp(torch.tensor([0.3, 0.5, 0.3])[:, None, None], torch.tensor([0.6] * 3)[:, None, None], patches)
    own = torch.where(
        Y < 24, torch.tensor([0.5, 0.3, 0.15])[:, None, None], torch.tensor([0.2, 0.25, 0.7])[:, None, None]
    )
    return (torch.lerp(behind, torch.lerp(behind, own, contrast), there) + 0.02 * noise).clamp(0, 1)


def rough(there: torch.Tensor) -> torch.Tensor:
    """A guess in blocks of eight pixels, beside the truth by three, without the arm's end."""
    moved = there.roll(3, 1) * (X < 75)
    blocks = torch.nn.functional.avg_pool2d(moved[None, None], 8, ceil_mode=True)
    return torch.nn.functional.interpolate(blocks, scale_factor=8)[0, 0, :ROWS, :COLUMNS]


def errors(contrast: float) -> tuple[float, float]:
    """Mean absolute errors of the guess and of what is drawn, over three frames."""
    truths = [subject(at) for at in (46.0, 48.0, 50.0)]
    guesses = [rough(truth) for truth in truths]
    pictures = [picture(truth, k, contrast) for k, truth in enumerate(truths)]
    colors = SubjectColors.of(guesses, pictures)
    drawn = [colors.drawn(*pair) for pair in zip(guesses, pictures, strict=True)]
    return tuple(float((torch.stack(found) - torch.stack(truths)).abs().mean()) for found in (guesses, drawn))


def test_the_outline_is_the_plates_not_the_guesses():
    guessed, drawn = errors(1.0)
    assert guessed > 0.06 and drawn < 0.01


def test_where_colours_tell_nothing_the_guess_stays():
    guessed, drawn = errors(0.0)
    assert drawn < 1.3 * guessed


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_guess_of_nothing_and_of_all_stays(value):
    guess, seen = torch.full((ROWS, COLUMNS), value), picture(subject(46.0), 0)
    assert (SubjectColors.of([guess], [seen]).drawn(guess, seen) - value).abs().max() < 0.01


def test_neighbours_are_solved_for_exactly():
    """Against a dense solution in fp64 of the equations of the random walker with priors."""
    generator = torch.Generator().manual_seed(1)
    own, seen = torch.rand(5, 6, generator=generator), 0.1 * torch.rand(3, 5, 6, generator=generator)
    matrix = 0.2 * torch.eye(30, dtype=torch.float64)
    for row in range(5):
        for column in range(6):
            for down, right in ((0, 1), (1, 0)):
                if row + down < 5 and column + right < 6:
                    a, b = row * 6 + column, (row + down) * 6 + column + right
                    apart = (seen[:, row, column] - seen[:, row + down, column + right]).double().square().sum()
                    weight = torch.exp(-600 * apart) + 1e-3
                    matrix[[a, b], [a, b]] += weight
                    matrix[[a, b], [b, a]] -= weight
    wanted = torch.linalg.solve(matrix, 0.2 * own.flatten().double()).view(5, 6)
    assert (_walked(own, seen) - wanted).abs().max() < 2e-3
