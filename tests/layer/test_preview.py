from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from tests.layer.stand_in import BLENDINGS, StandInPlate
from vera.core.layer import preview
from vera.core.layer.preview import Shown
from vera.core.layer.shot_pictures import ShotPictures
from vera.core.plate.color import PlateColor
from vera.core.plate.color_curve import decode_srgb, encode_srgb
from vera.core.plate.color_space import LINEAR


def show(plate, frame, blend_space="linear"):
    """Grey plate, its frame's number told by the composite; a layer of half red on the left."""
    size = (plate.height, plate.width)
    layer = np.zeros((*size, 4), np.float32)
    layer[:, : plate.width // 2] = [0.5, 0, 0, 0.5]
    composite = np.full((*size, 3), 0.1 * (plate.frames.index(frame) + 1), np.float32)
    return Shown(frame, np.full((*size, 3), 0.5, np.float32), layer, composite, BLENDINGS[blend_space])


def pictures(plate):
    return [preview.movie_picture(show(plate, frame), plate) for frame in plate.frames]


def test_the_movie_shows_every_frame_at_the_plates_rate(tmp_path):
    plate = StandInPlate(size=(240, 400), frames=tuple(range(5)), fps=Fraction(24000, 1001))
    preview.write_movie(tmp_path / "a.mp4", pictures(plate), plate)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    with av.open(str(tmp_path / "a.mp4")) as movie:
        stream = movie.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.pix_fmt == "yuv420p"
        assert stream.average_rate == Fraction(24000, 1001)
        found = [f.to_ndarray(format="rgb24") / 255 for f in movie.decode(stream)]
    assert len(found) == 5
    for number, picture in enumerate(found):
        assert picture.shape == (480, 800, 3)
        view = {n: picture[240 * r : 240 * r + 240, 400 * c : 400 * c + 400] for n, (r, c) in preview.VIEWS.items()}
        assert view["composite"][100:140, 150:250].mean() == pytest.approx(0.1 * (number + 1), abs=0.02)
        assert view["plate"][40:80, 150:250].mean() == pytest.approx(0.5, abs=0.02)
        assert view["alpha"][40:80, 40:160].mean() == pytest.approx(0.5, abs=0.02)
        assert view["alpha"][40:80, 240:360].max() < 0.02
        red, _, blue = view["layer"][40:80, 40:160].mean((0, 1))
        assert red > blue + 0.2


@pytest.mark.parametrize("size, aspect", [((1080, 1920), 1.0), ((17, 31), 1.0), ((486, 720), 0.9), ((64, 2), 1.0)])
def test_the_movies_size_is_even_and_bounded(tmp_path, size, aspect):
    plate = StandInPlate(size=size, frames=(1,), pixel_aspect=aspect)
    preview.write_movie(tmp_path / "a.mp4", pictures(plate), plate)
    with av.open(str(tmp_path / "a.mp4")) as movie:
        context = movie.streams.video[0].codec_context
        assert context.width <= 1280 and context.width % 2 == 0 and context.height % 2 == 0
        if min(size) > 400:
            shape = context.height / context.width
            assert shape == pytest.approx(size[0] / (size[1] * aspect), rel=0.02)


@pytest.mark.parametrize(
    "size, aspect, shape",
    [((90, 160), 1.0, 16 / 9), ((90, 160), 2.0, 32 / 9), ((160, 90), 1.0, 9 / 16), ((160, 90), 0.5, 9 / 32)],
)
def test_small_pictures_have_the_shape_in_which_the_plate_is_seen(tmp_path, size, aspect, shape):
    plate = StandInPlate(size=size, frames=(1,), pixel_aspect=aspect)
    shown = show(plate, 1)
    preview.write_thumbnail(tmp_path / "thumbnail.png", shown.layer, plate, shown.blending)
    preview.write_poster(tmp_path / "poster.png", shown.composite, plate)
    sheet = Image.fromarray(preview.sheet_column(shown, plate)[0])
    for picture in (*map(Image.open, sorted(tmp_path.iterdir())), sheet):
        assert picture.width / picture.height == pytest.approx(shape, rel=0.02)


def test_the_contact_sheet_spreads_over_the_shot(tmp_path, monkeypatch):
    asked = []
    plate = StandInPlate(size=(90, 160), frames=tuple(range(1001, 1050)))

    def column(frame):
        asked.append(frame)
        return preview.sheet_column(show(plate, frame), plate)

    preview.write_contact_sheet(tmp_path / "a.png", column, plate)
    assert asked == [1001, 1013, 1025, 1037, 1049]
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    step = 300 + 8
    assert sheet.shape[1] == 5 * step + 8
    height = round(300 * 90 / 160)
    row = height + 8 + 16
    alpha = sheet[8 + 2 * row + 16 :][:height, 8:308]
    assert alpha[10:-10, 10:140].mean() == pytest.approx(127.5, abs=1) and alpha[:, 160:].max() == 0


@pytest.mark.parametrize("blend_space", ["linear", "encoded"])
def test_the_layer_is_laid_in_its_blending_space(blend_space):
    plate = StandInPlate(size=(48, 96), frames=(1,))
    shown = show(plate, 1, blend_space)
    picture, alpha = preview._layer_views(shown.layer, shown.blending, (48, 96))
    decode, encode = (decode_srgb, encode_srgb) if blend_space == "linear" else (lambda x: x,) * 2
    assert sorted({round(float(v), 4) for v in picture[:, 48:, 0].ravel()}) == list(preview._GREYS)
    for grey in preview._GREYS:
        expected = encode(np.array([0.5, 0, 0]) + 0.5 * decode(np.float64(grey)))
        assert np.abs(picture[:, :48] - expected).max(axis=-1).min() < 1e-5
    assert (alpha[:, :48] == 0.5).all() and (alpha[:, 48:] == 0).all()


def test_frames_lost_on_the_way_are_noticed(tmp_path):
    plate = StandInPlate(size=(64, 64), frames=(1, 2, 3))
    with pytest.raises(OSError, match="holds 2 of 3 frames"):
        preview.write_movie(tmp_path / "a.mp4", pictures(plate)[:2], plate)
    assert not list(tmp_path.iterdir())


def test_frames_that_are_shrunk_first_look_the_same():
    plate = StandInPlate(size=(2160, 3840), frames=(1,))
    y, x = np.mgrid[:2160, :3840].astype(np.float32)
    wave = (0.5 + 0.4 * np.sin(x / 60) * np.cos(y / 45))[..., None]
    layer = np.concatenate([0.5 * wave, 0 * wave, 0 * wave, wave], -1)
    images = (wave.repeat(3, -1), layer, 1 - wave.repeat(3, -1))
    small = preview.shrunk(plate, *images)
    few = (small.plate, small.layer, small.composite)
    assert [i.shape[:2] for i in few] == [(360, 640)] * 3
    whole, thin = (
        preview.movie_picture(Shown(1, plate_, layer_, composite, BLENDINGS["linear"]), plate).astype(int)
        for plate_, layer_, composite in (images, few)
    )
    assert np.abs(whole - thin).mean() < 1.5  # of 255; up to half a pixel of those that are looked at apart
    assert thin.shape == preview.movie_shape(plate)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.float16, np.float32])
def test_a_shrunk_picture_is_of_the_plates_type(kind):
    plate = StandInPlate(size=(480, 800), frames=(1,))
    most = 1 if np.dtype(kind).kind == "f" else np.iinfo(kind).max
    image = np.full((480, 800, 3), most * 0.25).astype(kind)
    small = preview.shrunk(plate, image, np.zeros((480, 800, 4), np.float16), image)
    assert [i.dtype for i in (small.plate, small.layer, small.composite)] == [kind, np.float16, kind]
    assert np.allclose(small.plate / most, 0.25, atol=0.003)


@pytest.mark.parametrize("stops", [2.0, -3.0])
def test_pictures_of_an_exposed_shot_are_those_of_a_shot_of_that_brightness(tmp_path, stops):
    """Highlights too: light above what is seen as white is cut before pixels are averaged."""
    plate = StandInPlate("float", size=(40, 2000), frames=(1,))
    light = 8 * np.random.default_rng(0).random((40, 2000, 3), np.float32) ** 4

    def shown(light, exposure):
        color = PlateColor(LINEAR, "float", exposure)
        pictures = ShotPictures(tmp_path, plate, BLENDINGS["linear"], color, lambda frame: None)
        return pictures._shown(1, light, np.zeros((40, 2000, 4), np.float16), light)

    exposed, bright = shown(light, stops), shown(light * np.float32(2**stops), 0.0)
    assert np.abs(exposed.plate - bright.plate).max() < 1e-5
    assert np.abs(exposed.composite - bright.composite).max() < 1e-5


def test_a_highlight_does_not_shine_into_what_lies_beside_it():
    plate = StandInPlate(size=(480, 800), frames=(1,))
    image = np.zeros((480, 800, 3), np.float16)
    image[:, 400], image[0, 0], image[9, 9] = 60000, np.nan, np.inf
    small = preview.shrunk(plate, image, np.zeros((480, 800, 4), np.float16), image, white=0.5).plate
    assert small.max() <= 0.5 and small[120, 200].max() <= 0.25 and not np.isnan(small).any()


@pytest.mark.parametrize("size, aspect", [((300, 800), 1.0), ((800, 2560), 1.0), ((50, 90), 0.4), ((300, 1000), 2.0)])
@pytest.mark.parametrize("box", [(0.1, 0.11, 0.2, 0.9), (0.97, 1, 0, 0.03), (0, 1, 0, 1), (0.5, 0.5, 0.5, 0.5)])
def test_a_composite_is_shrunk_where_it_differs_and_nowhere_else(size, aspect, box):
    plate = StandInPlate(size=size, frames=(1,), pixel_aspect=aspect)
    height, width = size
    rng = np.random.default_rng(0)
    filmed = rng.random((*size, 3), np.float32).astype(np.float16)
    rows, columns = slice(int(box[0] * height), int(box[1] * height)), slice(int(box[2] * width), int(box[3] * width))
    layer = np.zeros((*size, 4), np.float16)
    layer[rows, columns] = 0.5
    composite = filmed.copy()
    composite[rows, columns] = 1
    small = preview.shrunk(plate, filmed, layer, composite)
    everywhere = np.full((*size, 4), 1, np.float16)
    assert np.array_equal(small.composite, preview.shrunk(plate, filmed, everywhere, composite).composite)
    corners = [0, -1], [0, -1], 3
    layer[corners] = np.maximum(layer[corners], 2**-12)  # the box is the whole picture
    assert np.abs(small.layer - preview.shrunk(plate, filmed, layer, composite).layer).max() < 2**-11
