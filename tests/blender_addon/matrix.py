"""Runs inside Blender's module: every kind of source in every state an editor brings it to, with a stand-in delivery.

A green disc moves 2 pixels a frame through the plate; the layer paints it red. In each cell the red disc must be where
the green one is seen, within a pixel (so within a frame), and nothing else may change.
"""

import faulthandler
import json
import os
import subprocess
import sys
import traceback
from types import SimpleNamespace

import bpy
import in_blender as b
import numpy as np

START, LENGTH = 11, 12
MIDDLE = START + 6
KINDS = ("sequence", "movie", "movie at another rate", "scene", "meta")
REFUSED = {}  # (kind, state) -> words


def key(strip, path, *values, frames=None):
    group, _, name = path.rpartition(".")
    owner = getattr(strip, group) if group else strip
    for frame, value in zip(frames or (START, START + LENGTH - 1), values):
        setattr(owner, name, value)
        owner.keyframe_insert(name, frame=frame)


def plain(scene, strip):
    return strip


def keyed_offset(scene, strip):
    key(strip, "transform.offset_x", 0, 30)
    return strip


def keyed_scale(scene, strip):
    key(strip, "transform.scale_x", 0.6, 1.2)
    key(strip, "transform.scale_y", 0.6, 1.2)
    return strip


def crop(scene, strip):
    strip.crop.min_x, strip.crop.max_y = 6, 10
    strip.transform.offset_y = 5
    return strip


def opacity(scene, strip):
    strip.blend_alpha = 0.5
    return strip


def fade(scene, strip):
    key(strip, "blend_alpha", 0.2, 1.0)
    return strip


def effect_above(scene, strip):
    if bpy.app.version < (5, 0, 0):
        effect = new_effect(scene, "moved", "TRANSFORM", strip)
        effect.translate_start_x, effect.scale_start_x, effect.scale_start_y = 12.0, 0.7, 0.7
    else:
        new_effect(scene, "soft", "GAUSSIAN_BLUR", strip).size_x = 2.0
    return strip


def faded_effect(scene, strip):
    """What is seen of the strip is its effect, and that is half transparent."""
    effect = new_effect(scene, "soft", "GAUSSIAN_BLUR", strip)
    effect.size_x, effect.blend_alpha = 2.0, 0.5
    return strip


def keyed_effect(scene, strip):
    key(new_effect(scene, "soft", "GAUSSIAN_BLUR", strip), "blend_alpha", 0.2, 1.0)
    return strip


def speed(scene, strip):
    effect = new_effect(scene, "faster", "SPEED", strip)
    effect.speed_control, effect.speed_factor = "MULTIPLY", 1.6
    return strip


def cut(scene, strip):
    """The strip was edited, then cut; the right half, moved away, is edited."""
    strip[b.part("marks").MARK] = f"mark of {scene.name}"
    right = strip.split(START + 5, "SOFT")
    move(right, 20)
    return right


def copy(scene, strip):
    """A copy, as Shift-D makes it: further on, with all that the strip has, its mark too."""
    strip[b.part("marks").MARK] = f"mark of {scene.name}"
    other = SOURCES[kind_of(scene)](scene, START + 30, "copy of it")
    other[b.part("marks").MARK] = strip[b.part("marks").MARK]
    return other


def trim(scene, strip):
    host = b.part("host")
    host.set_timing(strip, host.content_start(strip) - 2, 4, 3)
    return strip


def keyed_crop(scene, strip):
    key(strip, "crop.min_x", 0, 12)
    return strip


def mirrored(scene, strip):
    strip.use_flip_x = True
    strip.transform.rotation = 0.2
    return strip


def driven(scene, strip):
    driver = strip.transform.driver_add("offset_x").driver
    driver.type, driver.expression = "SCRIPTED", "frame - 10"
    return strip


def colored(scene, strip):
    key(strip, "color_multiply", 0.6, 1.0)
    return strip


def crossed(scene, strip):
    """A cross dissolve from the strip to another; the frames before it and in it."""
    color = b.strips(scene).new_effect("blue", "COLOR", 4, START + 4, **b.end_or_length(START + LENGTH, LENGTH - 4))
    color.color = (0, 0, 0.3)
    names = b.strips(scene).bl_rna.functions["new_effect"].parameters.keys()
    inputs = dict(zip(("input1", "input2") if "input1" in names else ("seq1", "seq2"), (strip, color)))
    b.strips(scene).new_effect("cross", "CROSS", 6, START + 4, **b.end_or_length(START + LENGTH, LENGTH - 4), **inputs)
    return strip


STATES = {
    "plain": plain,
    "keyed offset": keyed_offset,
    "keyed scale": keyed_scale,
    "crop": crop,
    "opacity": opacity,
    "fade": fade,
    "effect above": effect_above,
    "speed": speed,
    "cut": cut,
    "copy": copy,
    "trim": trim,
    "keyed crop": keyed_crop,
    "mirrored and turned": mirrored,
    "driven": driven,
    "keyed colour": colored,
    "cross dissolve": crossed,
}
SOME = {"opacity of an effect": faded_effect, "keyed opacity of an effect": keyed_effect}  # for these kinds only:
SOME_KINDS = ("sequence", "scene")
# States that a layer, once placed, follows: done to the source afterwards, and then Follow Strip.
WRAPPED = ("cross", "opacity", "fade", "of an effect")  # of which source and layer are put into a meta strip
FOLLOWED = ("keyed offset", "keyed scale", "crop", "opacity", "fade", "trim", "keyed crop", "mirrored and turned")


def new_effect(scene, name, kind, strip):
    host = b.part("host")
    first, end = host.left(strip), host.right(strip)
    return b.strips(scene).new_effect(name, kind, 7, first, **b.end_or_length(end, end - first), **b.input_of(strip))


def move(strip, frames):
    host = b.part("host")
    host.set_timing(strip, host.content_start(strip) + frames, *host.trims(strip))


def sequence(scene, start=START, name="source"):
    return b.add_images(scene, b.told["disc"], range(1001, 1001 + LENGTH), 2, start, name)


def movie(scene, start=START, name="source", file="disc_movie"):
    strip = b.strips(scene).new_movie(name, b.told[file], 2, start)
    b.part("host").set_right(strip, start + LENGTH)
    return strip


def movie_of_another_rate(scene, start=START, name="source"):
    """As a user adds it: the operator fits it to the scene's rate, so that frames are left out. (5.0's module
    crashes in the
    operator; there it plays each frame.)"""
    if bpy.app.version >= (5, 0, 0):
        return movie(scene, start, name, "fast_movie")
    b.show(scene)
    window = bpy.context.window_manager.windows[0]
    area = window.screen.areas[0]
    area.type = "SEQUENCE_EDITOR"
    region = next(r for r in area.regions if r.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=area, region=region, scene=scene):
        bpy.ops.sequencer.movie_strip_add(
            filepath=b.told["fast_movie"],
            frame_start=start,
            channel=2,
            use_framerate=False,
            adjust_playback_rate=True,
            sound=False,
        )
    strip = next(s for s in b.strips(scene) if s.type == "MOVIE" and s.name.startswith("fast_movie"))
    strip.name = name
    b.part("host").set_right(strip, start + LENGTH)
    return strip


def scene_strip(scene, start=START, name="source"):
    inner = b.scene_of(f"in {scene.name} {name}", frames=(1, LENGTH))
    b.add_images(inner, b.told["disc"], range(1001, 1001 + LENGTH))
    b.show(scene)
    strip = b.strips(scene).new_scene(name, inner, 2, start)
    strip.scene_input = "SEQUENCER"
    b.part("host").set_right(strip, start + LENGTH)
    return strip


def meta(scene, start=START, name="source"):
    strip = b.strips(scene).new_meta(name, 2, start)
    inside = b.add_images(scene, b.told["disc"], range(1001, 1001 + LENGTH), 20, start, f"in {name}")
    inside.move_to_meta(strip)
    b.part("host").set_right(inside, start + LENGTH)
    b.part("host").set_right(strip, start + LENGTH)
    return strip


SOURCES = dict(zip(KINDS, (sequence, movie, movie_of_another_rate, scene_strip, meta)))


def kind_of(scene):
    return scene.name.split(" x ")[0]


def excess(picture, channel):
    others = [c for c in range(3) if c != channel]
    return np.clip(picture[..., channel] - picture[..., others].max(-1), 0, None).astype(float)


def centre(weights):
    weights = np.where(weights > 0.5 * weights.max(), weights, 0)
    y, x = np.mgrid[0 : weights.shape[0], 0 : weights.shape[1]]
    return np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()


def grown(mask, pixels):
    for _ in range(pixels):
        padded = np.pad(mask, 1)
        mask = padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return mask


def check(scene, layer, frames, rounding=0, seen_through=False):
    """Problems of a cell, one line each. rounding: code values by which Blender may round otherwise where a layer of
    floats takes part (a cross dissolve is computed in 8 bits without one). seen_through: that the plate shows through
    the edit is known."""
    found = []
    for frame in frames:
        layer.mute = True
        without = b.rendered(scene, frame)
        layer.mute = False
        seen = b.rendered(scene, frame)
        green = excess(without, 1)
        if green.max() < 8:
            found.append(f"frame {frame}: no disc is seen without the layer")
            continue
        changed = (seen != without).any(-1)
        if not changed.any():
            found.append(f"frame {frame}: the layer is not seen")
            continue
        away = np.abs(centre(np.clip(green - excess(seen, 1), 0, None)) - centre(green)).max()
        if away > 1:
            found.append(f"frame {frame}: the layer's centre is {away:.1f} pixels off")
        through = excess(seen, 1)[green > 0.9 * green.max()].max()
        if through > 2 and not seen_through:
            found.append(f"frame {frame}: the plate is seen through the edit, by {through:.0f} code values")
        stray = (abs(seen - without).max(-1) > rounding) & ~grown(green > 0.02 * green.max(), 2)
        if stray.any():
            found.append(
                f"frame {frame}: {stray.sum()} pixels away from the disc differ, by up to "
                f"{abs(seen - without)[stray].max()}"
            )
    return found


def ask_for(scene, strip):
    ask = b.part("plan").Ask(prompt="Paint the disc red", folder=str(b.WORK / "vera" / scene.name.replace(" ", "_")))
    (ticket,) = b.part("plan").plan(scene, [strip], ask)
    return ticket


def lay_black(scene):
    """Half transparent pixels over nothing are another picture in Blender's 8-bit and float ways."""
    b.strips(scene).new_effect("black", "COLOR", 1, 1, **b.end_or_length(90, 89)).color = (0, 0, 0)


def cells():
    """(scene, strip or None, state that is brought about after the layer is placed or "")."""
    for kind, make in SOURCES.items():
        for state, bring in (STATES | SOME if kind in SOME_KINDS else STATES).items():
            scene = b.scene_of(f"{kind} x {state}", frames=(1, 90))
            lay_black(scene)
            yield scene, bring(scene, make(scene)), ""
        for state in FOLLOWED:
            scene = b.scene_of(f"{kind} x {state} x after", frames=(1, 90))
            lay_black(scene)
            yield scene, make(scene), state


def render_first(tickets):
    """All of them by one other Blender, from one copy of the file."""
    stage = b.part("stage")
    blend = str(b.WORK / "matrix.blend")
    bpy.ops.wm.save_as_mainfile(filepath=blend)
    orders = []
    for ticket in tickets:
        for folder in {os.path.dirname(f) for f in stage.files(ticket.stage)}:
            os.makedirs(folder, exist_ok=True)
        orders.append(f"{ticket.folder}/stage.json")
        with open(orders[-1], "w") as file:
            json.dump({**ticket.stage, "blend": blend}, file)
    done = subprocess.run([sys.executable, str(stage.SCRIPT), "--", *orders], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def deliver(tickets):
    orders = [
        {
            "plate": t.recipe["plate"],
            "out": t.recipe["out"],
            "numbers": t.shown["numbers"],
            "space": t.blend_space,
            "opaque": "colour" not in t.scene,
            "movie": {b.told["disc_movie"]: b.told["disc_of_movie"], b.told["fast_movie"]: b.told["disc_of_movie"]}.get(
                t.recipe["plate"], ""
            ),
        }
        for t in tickets
    ]
    path = b.WORK / "orders.json"
    path.write_text(json.dumps(orders))
    done = subprocess.run(
        [b.told["python"], b.told["deliver"], str(path)],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr[-3000:]


def main():
    b.install()
    host, place = b.part("host"), b.part("place")
    from_refused = b.part("host_rules").RefusedError
    asked, told = [], {}
    for scene, strip, after in cells():
        b.show(scene)
        try:
            asked.append((scene.name, strip.name, after, ask_for(scene, strip)))
        except from_refused as error:
            told[scene.name] = f"refused: {error}"
    render_first([t for *_, t in asked if t.stage])
    deliver([t for *_, t in asked])
    for name, source, after, ticket in asked:
        scene = bpy.data.scenes[name]
        b.show(scene)
        wrapped = any(word in name for word in WRAPPED) and not after
        before = b.rendered(scene, MIDDLE) if wrapped else None
        layer = place.place(scene, ticket)
        layer.mute = True
        problems = []
        if wrapped and not np.array_equal(before, b.rendered(scene, MIDDLE)):
            problems = ["the picture without the layer is another now"]
        strip = next(s for s in host.all_strips(scene) if s.name == source)
        if after:
            STATES[after](scene, strip)
            b.select(scene, layer)
            bpy.ops.vera.align()
        first, end = host.left(layer), host.right(layer)
        last = MIDDLE if "cross" in name else end - 1
        words = place.outdated(scene, layer)
        if words and after not in ("opacity", "fade", "trim"):
            told[name] = f"told: {words}" if ticket.stage else f"told, but it could follow: {words}"
            continue
        frames = {first, (first + last) // 2, last} if "keyed" in name or "fade" in name else {first, last}
        problems += check(scene, layer, sorted(frames), int(wrapped), seen_through="cross" in name or bool(words))
        if source != "source" or " x cut" in name:
            others = [s for s in host.all_strips(scene) if s.name.startswith("source") and s != strip]
            problems += [f"it lies over {o.name}" for o in others if host.left(o) < end and first < host.right(o)]
        told[name] = (
            "; ".join(problems)
            or f"follows ({'rendered first: ' + ticket.source['rendered'] if ticket.stage else 'plain'})"
        )
    print("TOLD " + json.dumps(told))


def fresh(name, kind="sequence"):
    """A scene with a source on channel 2 over black, and a layer of 12 frames on it."""
    scene = b.scene_of(name, frames=(1, 90))
    lay_black(scene)
    strip = SOURCES[kind](scene)
    return scene, strip, layered(scene, strip)


def layered(scene, strip, **values):
    """Edit a strip by the stand-in, and place its layer."""
    b.show(scene)
    ask = b.part("plan").Ask(prompt="Paint the disc red", folder=f"//vera/{scene.name}", **values)
    (ticket,) = b.part("plan").plan(scene, [strip], ask)
    assert not ticket.stage
    deliver([ticket])
    return b.part("place").place(scene, ticket)


def span(strip):
    host = b.part("host")
    return host.left(strip), host.right(strip)


def sound(scene, layer):
    problems = check(scene, layer, sorted({span(layer)[0], span(layer)[1] - 1}))
    assert not problems, (scene.name, layer.name, problems)


def half_transparent(name, bring, kind="sequence"):
    """The edit at the strip's opacity over what lies below: as if the edited picture itself were half transparent."""
    scene = b.scene_of(name, frames=(1, 90))
    b.strips(scene).new_effect("blue", "COLOR", 1, 1, **b.end_or_length(90, 89)).color = (0.1, 0.2, 0.8)
    strip = bring(scene, SOURCES[kind](scene))
    moves = "blend_alpha" in b.part("animation").curves(scene, strip)
    before = b.rendered(scene, MIDDLE)
    layer = layered(scene, strip)
    layer.mute = True
    assert np.array_equal(before, b.rendered(scene, MIDDLE)), "the picture without the layer is another now"
    layer.mute = False
    seen, meta = b.rendered(scene, MIDDLE), layer.parent_meta()
    curves = b.part("animation").curves(scene, meta)
    share = curves["blend_alpha"].evaluate(MIDDLE) if moves else meta.blend_alpha
    b.part("animation").remove(scene, meta, "blend_alpha")
    meta.blend_alpha = 1
    edited = b.rendered(scene, MIDDLE).astype(float)
    meta.mute = True
    below = b.rendered(scene, MIDDLE)
    wrong = np.abs(seen - (share * edited + (1 - share) * below)).max()
    assert (seen != before).any() and 0 < share < 1 and wrong <= 2, (name, share, wrong)


def case_artist():
    """What an editor does to layers and their strips: cuts, copies, trims, versions, moved projects."""
    b.install()
    place, host, marks = b.part("place"), b.part("host"), b.part("marks")
    (b.WORK / "project").mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(b.WORK / "project" / "artist.blend"))

    what_is_asked_of_files()
    half_transparent("half", opacity)
    half_transparent("fading", fade)

    # Source and layer are cut, the right halves are moved; Follow Strip on the right one, then on both.
    scene, source, layer = fresh("cut both")
    right, right_layer = source.split(START + 5, "SOFT"), layer.split(START + 5, "SOFT")
    move(right, 10)
    move(right_layer, 10)
    for chosen in ([right_layer], [layer], [right], [layer, right_layer]):
        b.select(scene, *chosen)
        bpy.ops.vera.align()
        assert [span(s) for s in (layer, right_layer)] == [(11, 16), (26, 33)], [span(s) for s in (layer, right_layer)]
        assert layer.channel == right_layer.channel == 3
    sound(scene, layer)
    sound(scene, right_layer)
    assert source[marks.MARK] != right[marks.MARK] == place.data_of(right_layer)["source"]
    # A job that was asked for before the cut goes to the half that has its media frames, though its mark is now new.
    for visible, half in (([11, 15], source), ([18, 23], right)):
        asked = SimpleNamespace(source={"mark": source[marks.MARK], "name": "", "start": START}, visible=visible)
        assert place.source_of_ticket(scene, asked) == half, visible

    # Only the source's halves are moved: each layer finds its own by the media's frames. Others are not touched.
    scene, source, layer = fresh("cut, then moved")
    right, right_layer = source.split(START + 5, "SOFT"), layer.split(START + 5, "SOFT")
    move(right, 10)
    move(source, 50)
    b.select(scene, right_layer)
    bpy.ops.vera.align()
    assert [span(s) for s in (layer, right_layer)] == [(11, 16), (26, 33)]
    b.select(scene, layer)
    bpy.ops.vera.align()
    assert span(layer) == (61, 66)
    sound(scene, layer)
    sound(scene, right_layer)
    b.select(scene, next(s for s in host.all_strips(scene) if s.name.startswith("black")))
    try:
        bpy.ops.vera.align()
        raise AssertionError("nothing was selected, and it followed")
    except RuntimeError as error:
        assert "no layer is selected" in str(error), error

    # Source and layer are copied (Shift-D), the copies moved; another version on the copy stays there.
    scene, source, layer = fresh("copied")
    first = layered(scene, source, seed=2)
    assert first == layer and len(place.data_of(layer)["versions"]) == 2
    copied = sequence(scene, START + 30, "source.001")
    copied[marks.MARK] = source[marks.MARK]
    other = strip_like(scene, layer, START + 30)
    bpy.ops.vera.version(step=-1, layer=other.name)
    assert span(other) == (41, 53) and other.channel == 3 and span(layer) == (11, 23)
    assert place.data_of(other)["current"] == 0 and place.data_of(layer)["current"] == 1
    b.select(scene, other)
    bpy.ops.vera.align()
    assert span(other) == (41, 53)
    sound(scene, other)
    assert layered(scene, copied, seed=3) == other and span(other) == (41, 53)
    sound(scene, other)
    bpy.ops.vera.version(step=1, layer=other.name)  # one that was made before the copy was moved
    assert span(other) == (41, 53) and other.channel == 3
    sound(scene, other)

    # Cut while the job runs, one half moved: the layer goes to the half that is where the job was asked for.
    scene = b.scene_of("cut meanwhile", frames=(1, 90))
    lay_black(scene)
    source = sequence(scene)
    b.show(scene)
    ticket = ask_for(scene, source)
    deliver([ticket])
    right = source.split(START + 4, "SOFT")
    move(right, 10)
    layer = place.place(scene, ticket)
    assert place.source_of_layer(scene, layer) == source and span(layer) == (11, 15), span(layer)
    sound(scene, layer)

    # What the artist sets on a layer stays: trims, an offset, a fade of its own, a move.
    scene, source, layer = fresh("artist")
    layered(scene, source, seed=2)
    timing = host.content_start(layer), *host.trims(layer)
    assert timing == (11, 0, 0)
    host.set_timing(layer, 11, 3, 2)
    layer.transform.offset_x = 20
    key(layer, "blend_alpha", 0.1, 1.0)
    for step in (-1, 1, 1):
        bpy.ops.vera.version(step=step, layer=layer.name)
        assert span(layer) == (14, 21) and layer.transform.offset_x == 20
        assert "blend_alpha" in b.part("animation").curves(scene, layer)
    move(layer, 4)
    bpy.ops.vera.version(step=1, layer=layer.name)
    assert span(layer) == (18, 25)
    move(source, 10)
    source.transform.rotation = 0.1
    b.select(scene, layer)
    bpy.ops.vera.align()
    assert span(layer) == (24, 31) and layer.transform.offset_x == 20 and abs(layer.transform.rotation - 0.1) < 1e-6
    # What the source loses, the layer loses: its keyframes are not the artist's.
    scene, source, layer = fresh("no longer keyed")
    key(source, "transform.offset_x", 0, 30)
    b.select(scene, layer)
    bpy.ops.vera.align()
    sound(scene, layer)
    b.part("animation").remove(scene, source, "transform.offset_x")
    source.transform.offset_x = 5
    bpy.ops.vera.align()
    assert not b.part("animation").curves(scene, layer) and layer.transform.offset_x == 5
    sound(scene, layer)
    # The curve is one that Blender itself finds by its path, whatever the strip is called.
    source.name = 'a "quoted" [strip]'
    key(source, "transform.offset_x", 0, 30)
    bpy.ops.vera.align()
    curve = b.part("animation").curves(scene, layer)["transform.offset_x"]
    assert scene.path_resolve(curve.data_path) == layer.transform.offset_x
    sound(scene, layer)
    for strip in (source, layer):
        b.part("animation").remove(scene, strip, "transform.offset_x")
    # A source that turns into another picture: the layer cannot follow, and says so.
    source.color_multiply = 0.5
    assert "no longer shows its files unchanged (colour settings); edit it again" in place.outdated(scene, layer)

    # Locked and muted channels are left alone.
    scene = b.scene_of("channels", frames=(1, 90))
    lay_black(scene)
    source = sequence(scene)
    scene.sequence_editor.channels[3].lock = True
    scene.sequence_editor.channels[4].mute = True
    assert layered(scene, source).channel == 5
    # Below an adjustment that lies over the strip, or not at all.
    b.strips(scene).new_effect("grade", "ADJUSTMENT", 6, START, **b.end_or_length(START + LENGTH, LENGTH))
    b.refused("no channel between source and grade is free", strips="source", result="LAYER", steps=1)
    source.blend_type = "MULTIPLY"
    b.refused("is composited by Multiply", strips="source")
    source.blend_type = "ALPHA_OVER"
    b.strips(scene).new_effect(
        "cameras", "MULTICAM", 8, START, **b.end_or_length(START + LENGTH, LENGTH)
    ).multicam_source = 2
    b.refused("is shown by cameras, which would hide its layer", strips="source")

    # Names with commas.
    source.blend_type, source.name = "ALPHA_OVER", "a, b"
    b.refused("no strip is named 'c'; there are", strips='"a, b",c')
    names_in = b.part("ops").names_in
    assert names_in("a, b", {"a, b": 1}) == ["a, b"] and names_in("a, b", {}) == ["a", "b"]
    assert names_in('"a, b" , "say ""c"""', {}) == ["a, b", 'say "c"']

    # A layer for linear light has the plate's primaries.
    scene = b.scene_of("primaries", frames=(1, 90))
    scene.sequencer_colorspace_settings.name = "Linear Rec.709"
    wide = sequence(scene)
    wide.colorspace_settings.name = "ACEScg"
    assert layered(scene, wide).colorspace_settings.name == "ACEScg"

    # A job that was cancelled before the service knew of it is not submitted.
    session, errands = b.part("session"), []
    ticket = ask_for(scene, wide)
    ticket.state, ticket.cancelling = "submit", True
    exchange, session._exchange = session._exchange, lambda settings, said, answers: errands.extend(said)
    asking = session.Session()
    asking.tickets[ticket.id] = ticket
    asking._ask()
    asking.thread.join()
    session._exchange = exchange
    assert [(e["submit"], e["cancel"]) for e in errands] == [(None, True)]

    # The project is moved as a whole: versions and Follow Strip find their files.
    scene, source, layer = fresh("moved project")
    layered(scene, source, seed=2)
    version = place.data_of(layer)["versions"][0]
    assert version["deliveries"]["encoded"].startswith("//vera/") and version["recipe"]["out"].startswith("//vera/")
    bpy.ops.wm.save_mainfile()
    os.rename(b.WORK / "project", b.WORK / "elsewhere")
    bpy.ops.wm.open_mainfile(filepath=str(b.WORK / "elsewhere" / "artist.blend"))
    scene = bpy.data.scenes["moved project"]
    b.show(scene)
    (layer,) = b.layers(scene)
    bpy.ops.vera.version(step=-1, layer=layer.name)
    assert str(b.WORK / "elsewhere") in place.current(layer)["deliveries"]["encoded"]
    assert os.path.isfile(bpy.path.abspath(layer.directory) + layer.elements[0].filename)
    # One that was saved elsewhere by another system, its paths absolute or of Windows, is found beside the layer.
    found = b.part("paths").found
    beside = place.current(layer)["deliveries"]["encoded"]
    shot = os.path.basename(os.path.dirname(beside))
    for path in (f"C:\\shows\\vera\\{shot}\\encoded", f"//..\\old\\{shot}\\encoded", f"/mnt/old/{shot}/encoded"):
        assert found(path, beside) == beside, found(path, beside)
    assert found("/mnt/old/none/encoded", beside) == "/mnt/old/none/encoded"

    # A version is thrown away; the last one is not.
    other = place.data_of(layer)["versions"][1]["id"]
    bpy.ops.vera.forget_version(layer=layer.name)
    assert [v["id"] for v in place.data_of(layer)["versions"]] == [other]
    sound(scene, layer)
    try:
        bpy.ops.vera.forget_version(layer=layer.name)
        raise AssertionError("the last version was thrown away")
    except RuntimeError as error:
        assert "has one version; delete the strip" in str(error), error


def what_is_asked_of_files():
    """Half transparent over nothing, turned photos, further streams, stereo: each said, or rendered first."""
    plate_reading, frames = b.part("plate_reading"), range(START, START + 2)
    scene = b.scene_of("files", frames=(1, 90))

    def words(strip):
        try:
            top = plate_reading.decide(scene, strip, frames).top
            return plate_reading.transparency_warning(scene, strip, top, frames)
        except b.part("host_rules").RefusedError as error:
            return str(error)

    clear = b.add_images(scene, b.told["clear"], (1001, 1002), 2, START, "clear")
    opaque = b.add_images(scene, b.told["disc"], (1001, 1002), 4, START, "opaque")
    assert "clear: may be half transparent over nothing" in words(clear) and words(opaque) == ""
    opaque.transform.rotation = 0.2
    assert "opaque: its edges over nothing may change" in words(opaque)
    opaque.transform.rotation, opaque.blend_alpha = 0, 0.5
    assert "opaque: is half transparent over nothing" in words(opaque)
    clear.use_float = True
    assert words(clear) == "" and words(opaque) != ""
    clear.use_float = False
    below = b.add_images(scene, b.told["disc"], (1001, 1002), 1, START, "below")
    assert words(clear) == words(opaque) == ""
    below.transform.scale_x = 0.5
    assert words(clear) and words(opaque)
    opaque.blend_alpha, scene.render.use_multiview, opaque.use_multiview = 1, True, True
    assert "opaque: is stereo" in words(opaque)
    scene.render.use_multiview = False

    below.transform.scale_x, channels = 1, scene.sequence_editor.channels
    assert words(clear) == ""
    channels[below.channel].mute = True  # what is not seen covers nothing
    assert "may be half transparent over nothing" in words(clear)
    channels[below.channel].mute = False

    # Frames that are cut off a movie's beginning count: the core's frame 1 is the file's first.
    cut_off = movie(scene, START + 40, "cut off")
    name = "content_trim_start" if hasattr(cut_off, "content_trim_start") else "animation_offset_start"
    setattr(cut_off, name, 3)
    at = b.part("host").content_start(cut_off)
    assert b.part("media").media_frames(cut_off, range(at, at + 3)).numbers == [4, 5, 6]

    turned = b.add_images(scene, b.told["turned"], (1001, 1002), 6, START, "turned")
    assert (
        "Orientation" in plate_reading.decide(scene, turned, frames).why
        and plate_reading.decide(scene, opaque, frames).why == ""
    )
    further = movie(scene, name="further")
    assert plate_reading.decide(scene, further, frames).why == ""
    further.stream_index = 1
    assert plate_reading.decide(scene, further, frames).why == "a further video stream of its file"


def strip_like(scene, layer, start):
    """A copy of a layer as Shift-D makes it."""
    host = b.part("host")
    folder = bpy.path.abspath(layer.directory)
    files = [os.path.join(folder, e.filename) for e in layer.elements]
    copied = b.strips(scene).new_image(f"{layer.name}.001", files[0], layer.channel, start)
    for file in files[1:]:
        copied.elements.append(os.path.basename(file))
    host.set_right(copied, start + len(files))
    copied.blend_type, copied.alpha_mode, copied["vera"] = layer.blend_type, layer.alpha_mode, layer["vera"]
    copied.colorspace_settings.name = layer.colorspace_settings.name
    return copied


if __name__ == "__main__":
    code = 1
    # An endless loop within Blender says where it was called.
    faulthandler.dump_traceback_later(int(os.environ.get("VERA_PATIENCE", 500)), exit=True)
    os.chdir(b.WORK)
    try:
        {"matrix": main, "artist": case_artist}[sys.argv[1]]()
        b.disable()
        print("case passed")
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
