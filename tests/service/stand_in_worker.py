"""A worker of the standard library, which does what the prompt says; the protocol is the real one's.

A prompt is words: "steps=3" and "pause=0.1" (seconds a step), then at the last step one of
"crash", "killed=2" (by the system, twice), "hang" (no beats), "stall" (beats only), "garbage", "input", "memory".
"cheaper" says at the start that memory ran out and that the job is tried once more, "warned" that something is not as
it was meant, "echo" says plate and prompt as warnings, "refused" as the reason of a failure, "movie" delivers the file
preview.mp4 of the service's folder.
"""

import hashlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

commands, stopping = [], threading.Event()
arrived = threading.Condition()
beating = threading.Event()


def send(event, **values):
    sys.stdout.write(json.dumps({"event": event, **values}) + "\n")
    sys.stdout.flush()


def read():
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "stop":
            stopping.set()
            continue
        if command["do"] == "job":
            stopping.clear()
        with arrived:
            commands.append(command)
            arrived.notify()
    os._exit(0)


def beat():
    while True:
        beating.wait()
        send("beat", memory={"worker": 1, "gpu": None})
        time.sleep(0.1)


def next_command():
    with arrived:
        arrived.wait_for(lambda: commands)
        return commands.pop(0)


def work(job):  # noqa: C901 - one branch a fault
    recipe = job["recipe"]
    words = recipe["prompt"].split()
    asked = dict(word.split("=") for word in words if "=" in word)
    warnings = ["the prompt has a word that the model does not know: warned"] if "warned" in words else []
    if "echo" in words:  # what a stranger wrote comes back in every place for words
        warnings = [recipe["plate"], recipe["prompt"]]
    identity = hashlib.sha256(recipe["prompt"].encode()).hexdigest()
    facts = {"frames": 25, "first": 1001, "last": 1025, "width": 1280, "height": 720, "fps": 24.0, "model": "mini"}
    send("prepared", identity=identity, warnings=warnings, facts=facts)
    donors = next_command()["donors"]
    if "cheaper" in words:  # memory ran out: prepared again
        send("prepared", identity=identity, warnings=["memory ran out; retrying with less"])
        donors = next_command()["donors"]
    steps = int(asked.get("steps", 1))
    send("progress", stage="denoise", done=0, total=steps, seconds_left=None, frame=None)
    for step in range(1, steps + 1):
        time.sleep(float(asked.get("pause", 0)))
        if stopping.is_set() and "deaf" not in words:
            return send("stopped")
        send("progress", stage="denoise", done=step, total=steps, seconds_left=0.0, frame=step)
    if "crash" in words:
        os.abort()
    if "killed" in asked:  # so many times, then no more
        tries = Path(job["thumbnails"]).parents[1] / "tries.txt"
        with open(tries, "a") as file:
            file.write("x")
        if len(tries.read_text()) <= int(asked["killed"]):
            os.kill(os.getpid(), signal.SIGKILL)
    if "garbage" in words:
        print("this is not an event", flush=True)
        time.sleep(60)
    if "hang" in words:
        beating.clear()
        time.sleep(600)
    if "stall" in words:
        time.sleep(600)
    if "refused" in words:
        return send("failed", kind="input", reason=f"{recipe['plate']}: {recipe['prompt']}; fix it")
    for kind in ("input", "memory"):
        if kind in words:
            send("failed", kind=kind, reason=f"a {kind} failure; fix it")
            return kind == "memory" and sys.exit(0)
    thumbnails = Path(job["thumbnails"])
    if "picture" in words:
        thumbnails.mkdir(parents=True, exist_ok=True)
        for frame in (1, 2, 3):
            (thumbnails / f"{frame}.png").write_bytes(picture(frame))
            send("thumbnail", frame=frame)
        (thumbnails / "poster.png").write_bytes(picture(2))
        send("poster")
    if "movie" in words:
        out = Path(recipe["out"])
        out.mkdir(parents=True, exist_ok=True)
        (out / "preview.mp4").write_bytes((thumbnails.parents[1] / "preview.mp4").read_bytes())
        (out / "recipe.json").write_text(json.dumps({**recipe, "recipe_hash": identity}))
        views = {"composite": [0, 0], "plate": [0, 1], "layer": [1, 0], "alpha": [1, 1]}
        send("delivered", facts=facts | {"views": views})
    with open(Path(job["thumbnails"]).parents[1] / "worked.txt", "a") as file:
        file.write(f"{recipe['out']}\n")
    send("done", report={"donors": donors})


def picture(frame):
    """A PNG of 160x120: a checkerboard with a coloured disc that moves."""
    import io

    from PIL import Image, ImageDraw

    image = Image.new("RGB", (160, 120))
    draw = ImageDraw.Draw(image)
    for y in range(0, 120, 12):
        for x in range(0, 160, 12):
            draw.rectangle((x, y, x + 11, y + 11), fill=(82,) * 3 if (x + y) // 12 % 2 else (122,) * 3)
    draw.ellipse((20 * frame, 30, 20 * frame + 60, 90), fill=(220, 70, 40))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


threading.Thread(target=read, daemon=True).start()
threading.Thread(target=beat, daemon=True).start()
send("ready", pid=os.getpid())
while True:
    job = next_command()
    beating.set()
    work(job)
    beating.clear()
