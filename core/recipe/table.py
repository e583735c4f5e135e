"""EditRecipe: everything that determines an edit, one row per field.

The recipe's checks, the options of `vera render` and `vera lift`, the service's JSON Schema, the paths that client,
farm and service map and check, the farm's templates, and docs/recipe.md are generated from this table.
"""

import difflib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vera.core.errors import InputError
from vera.core.plate.choice import FIELD_WAYS, MATRICES, RANGES
from vera.core.recipe.field import LARGE, SAVING, Field, InHosts, Part, Row, fields_of
from vera.core.recipe.job_file import read_json
from vera.core.recipe.parse import (
    EMBEDDED,
    EXTRA_OUTPUT_NAMES,
    MATCHES,
    MAX_STOPS,
    parse_also,
    parse_cuts,
    parse_exposure,
    parse_lora,
    parse_match,
    parse_parts,
    parse_region,
    shown,
)
from vera.core.recipe.path_kind import PathKind
from vera.core.recipe.paths import change_paths

SCHEMA = "vera.recipe/1"
BLEND_SPACES = ("linear", "encoded")
NO_MASK = "none"
LAYER_TYPES = ("half", "float")
# EXR compressions. All are lossless for half and float except DWA, which only composites can have. htj2k32 is HTJ2K in
# blocks of 32 lines.
COMPRESSIONS = ("zip", "zips", "piz", "rle", "htj2k32", "none", "dwaa")
LAYER_MODES = ("auto", "replace", "relative")
ATTENTIONS = ("dense", "int8", "window")
WEIGHTS = ("auto", "bf16", "fp8", "int8")
OFFLOADS = ("auto", "none", "parts", "blocks")
SPLITS = ("none", "files", "parts")
MAX_OFFSET = 1_000_000  # frames
MAX_SENSITIVITY = 4
MAX_EDGE = 6
MAX_STEADINESS = 8  # frames
MAX_SEED = 2**63 - 1
MAX_STEPS = 1000
MAX_GUIDANCE = 30
MIN_SHIFT, MAX_SHIFT = 0.1, 100  # bounds of the noise schedule's shift; 1 gives even steps, Wan uses 3 to 5, VACE 16
MAX_CONDITIONING = 10  # strength relative to VACE's training
_WRITTEN_BESIDE = ("recipe_hash", "generation")  # further entries of a delivery's recipe.json
_OWN = ("generate",)
_SAMPLED = ("generate", "vace")
_LIFTED = ("lift", "vace")


def row(**named: Any) -> dict[str, Row]:
    """The metadata of a field."""
    return {"row": Row(**named)}


@dataclass(frozen=True)
class EditRecipe:
    """The user's request. None leaves a choice to plate or model. Raises InputError."""

    # fmt: off
    plate: str = field(metadata=row(
        help="frames to edit: plate.####.exr, plate.%04d.dpx, one still, or a movie",
        hint="which frames to edit, such as plate.####.exr or plate.mov",
        path=PathKind.PATTERN, part=Part.GENERATION,
    ))
    prompt: str = field(metadata=row(
        help="what should change, in words",
        hint="what should change, such as 'Add a red balloon on the left'",
        part=Part.GENERATION,
    ))
    out: str = field(metadata=row(
        help="folder for the results", hint="the folder for the results", path=PathKind.FOLDER,
    ))
    mask: str | None = field(default=None, metadata=row(
        help="white where the edit may go: a sequence, a movie, or one still for all frames; without one, mini"
        " keeps the people before a new background, and with the word none it decides by itself",
        hint="a sequence, a movie or a still",
        path=PathKind.PATTERN, no_path=(NO_MASK,), part=Part.GENERATION,
    ))
    frames: str | None = field(default=None, metadata=row(
        help="a range such as 1001-1049 (default: all frames)",
        hint="a range such as 1001-1049",
        part=Part.GENERATION,
    ))
    model: str = field(default=EMBEDDED, metadata=row(
        help="mini (default), a full-size model's folder, vace:FOLDER, or lift:EDITED_VIDEO",
        hint="mini, a model directory, vace:DIRECTORY, or lift:VIDEO",
        path=PathKind.MODEL, part=Part.GENERATION,
    ))
    edited_offset: int | None = field(default=None, metadata=row(
        help="position of the edited video's first frame: number of plate frames before it, below 0 if it lies before"
        " the plate's first (default: found by frame rates, frame counts and pictures)",
        hint="a whole number of frames",
        bounds=(-MAX_OFFSET, MAX_OFFSET), backends=("lift",), left_out="has no edited video from elsewhere",
        part=Part.GENERATION,
    ))
    hold_out: str | None = field(default=None, metadata=row(
        help="white where the edit may not go, whatever the mask says: a sequence, a movie or a still",
        hint="a sequence, a movie or a still",
        path=PathKind.PATTERN, backends=("lift",), left_out="takes a mask alone", part=Part.GENERATION,
    ))
    no_learned: bool = field(default=False, metadata=row(
        help="lift by the classical estimate alone, without the learned gate",
        backends=_LIFTED, left_out="measures no layer", part=Part.GENERATION,
    ))
    sensitivity: float = field(default=1.0, metadata=row(
        help="raising it lifts fainter changes, and more noise (default 1)",
        bounds=(1 / MAX_SENSITIVITY, MAX_SENSITIVITY), backends=_LIFTED, left_out="measures no layer",
        part=Part.GENERATION,
    ))
    edge: float = field(default=1.0, metadata=row(
        help="factor by which solid edges are made steeper than in the edited video (default 1)",
        bounds=(1, MAX_EDGE), backends=_LIFTED, left_out="measures no layer", part=Part.GENERATION,
    ))
    steadiness: int = field(default=2, metadata=row(
        help="number of frames each way over which the matte of still parts is averaged; 0 averages none (default 2)",
        bounds=(0, MAX_STEADINESS), backends=_LIFTED, left_out="measures no layer", part=Part.GENERATION,
    ))
    parts: str | None = field(default=None, metadata=row(
        help="connected parts of a lift, by their numbers in its report: those to keep, such as 1,3, or to drop, such"
        " as -2,-4 (default: keep all)",
        hint="numbers to keep such as 1,3, or to drop such as -2,-4",
        metavar="LIST", check=parse_parts, backends=_LIFTED, left_out="numbers no parts", part=Part.DELIVERY,
    ))
    split: str = field(default="none", metadata=row(
        help="deliver a lift's layer also as gain, shadow, veil and object, to be composited in this order: as files in"
        " four folders, or as named parts of the EXR files",
        choices=SPLITS, backends=_LIFTED, left_out="does not know what kind its layer is", part=Part.DELIVERY,
    ))
    seed: int = field(default=0, metadata=row(
        help="seed of the random noise; each seed gives another result (default 0)",
        bounds=(0, MAX_SEED), backends=_SAMPLED, left_out="draws no noise", part=Part.GENERATION,
    ))
    steps: int | None = field(default=None, metadata=row(
        help="number of denoising steps; more are slower and give finer detail (default: the model's)",
        bounds=(1, MAX_STEPS), backends=_SAMPLED, left_out="takes no denoising steps", part=Part.GENERATION,
    ))
    guidance: float | None = field(default=None, metadata=row(
        help="guidance scale: how closely the prompt is followed; 1 is fastest (default: the model's)",
        bounds=(0, MAX_GUIDANCE), backends=_SAMPLED, left_out="follows the edited video, not the prompt",
        part=Part.GENERATION,
    ))
    negative_prompt: str | None = field(default=None, metadata=row(
        help="what should not appear; needs a guidance other than 1 (default: empty; for VACE Wan's own)",
        hint="what should not be seen", backends=_SAMPLED, left_out="follows the edited video, not the prompt",
        part=Part.GENERATION,
    ))
    shift: float | None = field(default=None, metadata=row(
        help="shift of the noise schedule; raising it spends more steps on composition, fewer on detail (default:"
        " the model's)",
        bounds=(MIN_SHIFT, MAX_SHIFT), backends=_SAMPLED, left_out="takes no denoising steps", part=Part.GENERATION,
    ))
    reference: tuple[str, ...] = field(default=(), metadata=row(
        help="a picture of the thing that VACE paints; may be given several times",
        hint="a list of picture files",
        metavar="FILE", path=PathKind.FILES, backends=("vace",), left_out="takes no reference pictures",
        part=Part.GENERATION,
    ))
    conditioning_scale: float | None = field(default=None, metadata=row(
        help="how closely VACE follows plate, mask and references (default 1)",
        bounds=(0, MAX_CONDITIONING), backends=("vace",), left_out="has no such conditioning", part=Part.GENERATION,
    ))
    color_space: str | None = field(default=None, metadata=row(
        help="colour space of the plate: any name in $OCIO's config or in OpenColorIO's ACES config, such as ACEScg"
        " (default: as the files state; else linear for half and float, srgb for integers)",
        hint="the plate's colour space",
        part=Part.GENERATION,
    ))
    layer: str | None = field(default=None, metadata=row(
        rare=True, hosts=InHosts("Layer"),
        help="layer of an EXR plate with several pictures, such as beauty (default: the usual one, named in a message)",
        hint="a layer's name",
    ))
    part: str | None = field(default=None, metadata=row(
        rare=True, hosts=InHosts("Part"),
        help="part of a multi-part EXR plate, by name or by number from 0", hint="a part's name",
    ))
    view: str | None = field(default=None, metadata=row(
        rare=True, hosts=InHosts("View"),
        help="view of a stereo plate, such as left", hint="a view's name",
    ))
    matrix: str | None = field(default=None, metadata=row(
        rare=True, hosts=InHosts("Matrix"),
        help="YUV matrix of a movie, if the file states none or a wrong one (default: as stated; else BT.709 from 720"
        " lines on, BT.601 below)",
        choices=MATRICES, part=Part.GENERATION,
    ))
    range: str | None = field(default=None, metadata=row(
        rare=True, hosts=InHosts("Code Range"),
        help="code range of a YUV movie, if the file states none or a wrong one (default: as stated; else limited)",
        choices=RANGES, part=Part.GENERATION,
    ))
    fields: str | None = field(default=None, metadata=row(
        rare=True, hosts=InHosts("Fields"),
        help="for an interlaced movie: deinterlace it with the upper or the lower field first, or ignore its fields"
        " (default: refuse it)",
        choices=FIELD_WAYS, part=Part.GENERATION,
    ))
    exposure: float | str = field(default="auto", metadata=row(
        help="exposure in stops, applied to a scene-linear plate before the model sees it"
        f" (from -{MAX_STOPS} to {MAX_STOPS}; default: auto)",
        backends=_OWN, left_out="compares pictures as a display shows them", part=Part.GENERATION,
        bounds=(-MAX_STOPS, MAX_STOPS), read=parse_exposure,
    ))
    blend_space: str = field(default="linear", metadata=row(
        help="values in which the host composites the layer: linear light (default), or display-encoded ones",
        choices=BLEND_SPACES, part=Part.DELIVERY,
    ))
    layer_space: str | None = field(default=None, metadata=row(
        help="linear space of the layer's RGB (default: the plate's primaries)",
        hint="a linear colour space",
        part=Part.DELIVERY,
    ))
    layer_mode: str = field(default="auto", metadata=row(
        help="colour of the layer: as the model made it, relative to the plate, or the better one per pixel (default)",
        choices=LAYER_MODES, backends=_OWN, left_out="has colour of the edited video only", part=Part.DELIVERY,
    ))
    region: str | None = field(default=None, metadata=row(
        help="edit only these pixels of the plate, which the model then sees at a higher resolution",
        hint="X,Y,W,H in pixels of the plate",
        metavar="X,Y,W,H", check=parse_region,
        backends=_OWN, left_out="looks at whole frames", part=Part.GENERATION,
    ))
    cuts: str | None = field(default=None, metadata=row(
        help="first frames of new shots, such as 1013,1040; none; or auto, which finds them (default)",
        hint="auto, none, or first frames such as 1013,1040",
        check=parse_cuts, same_as_default=("auto",), backends=_OWN, left_out="takes the plate as one shot",
        part=Part.GENERATION,
    ))
    keep: bool = field(default=False, metadata=row(
        help="keep the generated latents, to deliver the layer again in other formats",
        backends=_OWN, left_out="has no latents to keep",
    ))
    layer_type: str = field(default="half", metadata=row(
        help="pixel type of the layer's EXR files (default half)", choices=LAYER_TYPES, part=Part.DELIVERY,
    ))
    compression: str = field(default="zip", metadata=row(
        help="compression of the EXR files, lossless (default zip); dwaa, which is lossy, applies to the composite of a"
        " DWA plate only",
        choices=COMPRESSIONS, part=Part.DELIVERY,
    ))
    also: tuple[str, ...] = field(default=(), metadata=row(
        help="further formats of the layer, such as prores,png,matte: OUT/edit.mov (ProRes 4444), OUT/png (16 bit),"
        " matte.A as a second part of the EXR files",
        metavar="LIST", choices=EXTRA_OUTPUT_NAMES, read=parse_also, part=Part.DELIVERY,
    ))
    match: tuple[str, ...] = field(default=(), metadata=row(
        hosts=InHosts("Match", of_files=False),
        help="match the layer to the plate: grain,sharpness, or one of them (default: none; docs/edges.md)",
        metavar="LIST", choices=MATCHES, read=parse_match, part=Part.DELIVERY,
    ))
    attention: str = field(default="dense", metadata=row(
        help="attention; int8 and window are approximations that are faster on a GPU", group=SAVING, choices=ATTENTIONS,
        backends=_OWN, left_out="has no such attention", part=Part.GENERATION,
    ))
    cache: float | None = field(default=None, metadata=row(
        help="skip the blocks after the first if its output changed less than this; 0.1 is cautious, 0.4 coarse",
        metavar="THRESHOLD", group=SAVING, bounds=(0, 1), same_as_default=(0,),
        backends=_OWN, left_out="has no such cache", part=Part.GENERATION,
    ))
    compile: bool = field(default=False, metadata=row(
        help="compile the model: slow to start, then faster", group=SAVING,
        backends=_OWN, left_out="compiles nothing",
    ))
    one_batch: bool = field(default=False, metadata=row(
        help="run both guidance passes in one batch, which takes more memory", group=SAVING,
        backends=_OWN, left_out="has no such passes",
    ))
    weights: str = field(default="auto", metadata=row(
        help="the transformer's weights: bf16, or 8 bits, which change the picture (default: auto, bf16 if that fits"
        " the GPU)",
        group=LARGE, choices=WEIGHTS, backends=_OWN, left_out="has no such weights", part=Part.GENERATION,
    ))
    offload: str = field(default="auto", metadata=row(
        help="parts kept in the host's memory while they are not used: text encoder and codec (parts), or also the"
        " transformer's blocks (blocks) (default: auto)",
        group=LARGE, choices=OFFLOADS, backends=_SAMPLED, left_out="has nothing to keep elsewhere",
    ))
    lora: tuple[str, ...] = field(default=(), metadata=row(
        help="a LoRA for Wan2.1 or this Vera; may be given several times",
        hint="a list of FILE or FILE:STRENGTH",
        metavar="FILE[:STRENGTH]", group=LARGE, path=PathKind.LORAS, check=parse_lora,
        backends=_OWN, left_out="has no weights to change", part=Part.GENERATION,
    ))
    lora_skip_missing: bool = field(default=False, metadata=row(
        rare=True,
        help="leave out LoRA tensors for which the model has no module, such as those of image-to-video, with a warning"
        " (default: refuse them)",
        group=LARGE, backends=_OWN, left_out="has no weights to change",
    ))
    anyway: bool = field(default=False, metadata=row(
        help="go on if the model does not know every word of the prompt; a warning names the words that it leaves out",
        backends=_OWN, left_out="follows the edited video, not the prompt",
    ))
    # fmt: on

    def __post_init__(self) -> None:
        for each in fields_of(type(self)):
            object.__setattr__(self, each.name, each.checked(getattr(self, each.name)))

    @classmethod
    def from_file(cls, path: str, **changes: Any) -> "EditRecipe":
        """Read a job file: JSON with this class's fields. Relative paths start at the file's folder."""
        values = read_json(path)
        if not isinstance(values, dict):
            raise InputError(f"{path}: a job file is one JSON object with plate, prompt and out")
        return cls.from_job(values, Path(path).parent, path, **changes)

    @classmethod
    def from_job(cls, values: dict, folder: Path, where: str, **changes: Any) -> "EditRecipe":
        """The recipe of a job file's object. folder: of the job file. where: names it in messages."""
        values = {name: value for name, value in values.items() if name not in _WRITTEN_BESIDE}
        schema = values.pop("schema", SCHEMA)
        if schema != SCHEMA:
            raise InputError(f"{where}: schema {shown(schema)} is unknown; this version reads {SCHEMA}")
        return cls.from_values(change_paths(values, fields_of(cls), _beside(folder)) | changes, where)

    @classmethod
    def from_values(cls, values: dict, where: str = "the command") -> "EditRecipe":
        """The recipe of values; None counts as not given. where: names their source in messages."""
        table = {each.name: each for each in fields_of(cls)}
        surplus = sorted(set(values) - set(table))
        if surplus:
            near = difflib.get_close_matches(surplus[0], table, 1)
            fix = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(sorted(table))}"
            raise InputError(f"{where}: unknown '{surplus[0][:100]}'; {fix}")
        for each in table.values():
            if each.required and values.get(each.name) is None:
                raise InputError(f"{where}: {each.name} is missing; say {each.row.hint}")
        return cls(**{name: value for name, value in values.items() if value is not None})

    def loading(self) -> dict[str, Any]:
        """Arguments of `load_model` besides name and device."""
        names = ("weights", "offload", "lora", "lora_skip_missing")
        asked = {name: getattr(self, name) for name in names}
        return {name: value for name, value in asked.items() if value not in ("auto", (), False)}

    def to_json(self) -> dict[str, Any]:
        """The content of a job file, with absolute paths, so that it can be run from any folder."""
        return {"schema": SCHEMA} | change_paths(asdict(self), fields_of(type(self)), _absolute)


FIELDS: tuple[Field, ...] = fields_of(EditRecipe)


def _beside(folder: Path):
    """A function that makes a job file's relative path absolute. folder: of the job file."""

    def change(path: str, kind: PathKind) -> str:
        # A model can be a name. In recipes up to 0.1.0, folders of full-size models are relative to the current folder.
        if kind is PathKind.MODEL and not (folder / path).is_dir():
            return path
        return str(folder / path)

    return change


def _absolute(path: str, kind: PathKind) -> str:
    if kind is PathKind.MODEL and not Path(path).is_dir():
        return path
    return str(Path(path).absolute())
