"""One presentation before a camera, drawn from a seed: who, what, where, in which light."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.data.planes import Box, square_around
from model.render import sensors
from model.render.attacks import (
    HALF,
    MASKS,
    PRINTS,
    SCREENS,
    MaskedSkin,
    Photo,
    Sheet,
    photograph,
    show_print,
    show_screen,
)
from model.render.heads import make_head, template
from model.render.rays import Array
from model.render.scene import Light, Paint, Picture, Solid, View, shoot, unrolled
from model.render.skin import PaintedSkin, Skin, coarse_noise, hair_cover, make_skin

SIZE_PX = 160
# Height of a head in the frame, px, and of the average head, m.
_HEAD_PX = 100.0
_HEAD_M = 0.25
_NUM_PHOTOS = 3
_NUM_EXPRESSIONS = 5

# One camera's trouble at a time: too dark for colour, too much sun for depth and infrared, or an
# infrared emitter that does not light up.
Trouble = Literal["none", "night", "sun", "unlit"]
TROUBLES: tuple[Trouble, ...] = ("none", "night", "sun", "unlit")
_TROUBLE_CHANCES = (0.70, 0.10, 0.10, 0.10)


@dataclass(frozen=True, eq=False)
class RenderedFrame:
    """What a camera sends, before encoding.

    Attributes:
        rgb: (S, S, 3) uint8.
        depth: (S, S) uint16 mm, 0 = hole.
        ir: (S, S) uint8.
        face_box: (x, y, w, h) px, as a detector would give it.
        about: the scene's parameters.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.uint16]
    ir: NDArray[np.uint8]
    face_box: Box
    about: dict[str, Any]


@dataclass(frozen=True)
class Crop:
    """The part of the camera's picture to render: around the face.

    Attributes:
        size: px.
        margin: part of the face box's longer side that is added on each side.
    """

    size: int
    margin: float


@dataclass(frozen=True, eq=False)
class _Scene:
    """All of a presentation that stays the same from frame to frame."""

    light: Light
    view: View
    pose: tuple[float, ...]
    sensor: sensors.DepthSensor
    solid: Solid
    paint: Paint
    glasses: int | None
    photo: Photo | None
    sheet: Sheet | None


def present(  # noqa: PLR0913, PLR0917 - a presentation is named by this much
    species: str,
    subject: int,
    target: int,
    seed: int,
    num_frames: int = 1,
    crop: Crop | None = None,
    trouble: Trouble | None = None,
) -> Iterator[RenderedFrame]:
    """Yield consecutive frames of one presentation.

    Args:
        species: `bona_fide`, or one of `model.render.attacks.SPECIES`.
        subject: the person before the camera.
        target: the person that an attack shows; ignored for `bona_fide`.
        seed: of everything else.
        num_frames: how many; the person moves a little from one to the next.
        crop: render the face alone; None: the whole picture of 160 px.
        trouble: None: mostly none.
    """
    rng = np.random.default_rng([seed, 3])
    drawn = TROUBLES[int(rng.choice(len(TROUBLES), p=_TROUBLE_CHANCES))]
    trouble = drawn if trouble is None else trouble
    scene = _scene(species, subject, target, seed, trouble, rng)
    sharpness = rng.uniform(0.4, 0.9) if crop is None else 0.55 * crop.size / rng.uniform(70, 200)
    for _ in range(num_frames):
        turn = _rotation(*(np.array(scene.pose) + rng.normal(0, 1.0, 3)))
        sway = rng.normal(0, 0.003, 3).astype(np.float32)
        view = replace(scene.view, turn=turn, centre_m=scene.view.centre_m + sway)
        sheet = scene.sheet and replace(scene.sheet, centre_m=scene.sheet.centre_m + 0.7 * sway)
        box = _detected(_shown_face(scene, sheet, view), rng)
        if crop is not None:
            square = square_around(box, crop.margin)
            view = view.window(square, crop.size)
            scale = crop.size / square[2]
            box = tuple(  # type: ignore[assignment] # four, as before
                (value - offset) * scale
                for value, offset in zip(box, (*square[:2], 0, 0), strict=True)
            )
        picture = _picture(species, scene, sheet, view, seed)
        yield RenderedFrame(
            rgb=sensors.colour(picture, max(0.4, sharpness), rng),
            depth=sensors.depth_mm(picture, scene.sensor, scene.light.nir_ambient, rng),
            ir=sensors.infrared(picture, max(0.4, sharpness), rng),
            face_box=box,
            about=_about(scene, trouble),
        )


def _scene(
    species: str, subject: int, target: int, seed: int, trouble: Trouble, rng: np.random.Generator
) -> _Scene:
    light, view = _light(trouble, rng), _view(rng)
    pose = _pose(rng)
    sensor = sensors.DEPTH_SENSORS[int(rng.integers(2))]
    sheet = _sheet(species, view, rng) if species in (*PRINTS, HALF, *SCREENS) else None
    # A mask gives its wearer the target's shape.
    shape = target if species in MASKS else subject
    paint: Paint = _paint(subject)
    if species in MASKS:
        paint = MaskedSkin(_paint(target), paint, species, np.random.default_rng([seed, 6]))
    wears_glasses = _skin(subject).wears_glasses and rng.random() < 0.8
    return _Scene(
        light=light,
        view=view,
        pose=pose,
        sensor=sensor,
        solid=_solid(shape, seed % _NUM_EXPRESSIONS),
        paint=paint,
        glasses=subject if wears_glasses else None,
        photo=_photo(target, seed % _NUM_PHOTOS) if sheet is not None else None,
        sheet=sheet,
    )


def _picture(species: str, scene: _Scene, sheet: Sheet | None, view: View, seed: int) -> Picture:
    glasses = None if scene.glasses is None else np.random.default_rng([scene.glasses, 7])
    person = partial(shoot, scene.solid, scene.paint, view, scene.light, glasses)
    if sheet is None or scene.photo is None:
        return person()
    show = show_screen if species in SCREENS else show_print
    return show(species, scene.photo, person, sheet, view, scene.light, seed)


def _about(scene: _Scene, trouble: Trouble) -> dict[str, Any]:
    return {
        "sensor": scene.sensor,
        "trouble": trouble,
        "distance_m": round(float(scene.view.centre_m[2]), 3),
        "pose_deg": [round(angle, 1) for angle in scene.pose],
        "emitter": round(scene.light.emitter, 3),
        "nir_ambient": round(scene.light.nir_ambient, 3),
        "glasses": scene.glasses is not None,
    }


@lru_cache(maxsize=512)
def _skin(number: int) -> Skin:
    return make_skin(np.random.default_rng([number, 2]))


@lru_cache(maxsize=24)
def _paint(number: int) -> PaintedSkin:
    return PaintedSkin(_skin(number), unrolled())


@lru_cache(maxsize=120)
def _solid(number: int, expression: int) -> Solid:
    """Return one of a few faces that a person makes."""
    skin = _skin(number)
    where = template().template
    hair_m = skin.hair_m * hair_cover(skin, where, coarse_noise(skin, where))
    return Solid(make_head(number, np.random.default_rng([number, expression, 4]), hair_m))


@lru_cache(maxsize=64)
def _photo(target: int, number: int) -> Photo:
    """Return one of a few pictures that attackers have of a target."""
    return photograph(_solid(target, number), _paint(target), target * _NUM_PHOTOS + number)


def _light(trouble: Trouble, rng: np.random.Generator) -> Light:
    outdoors = rng.random() < 0.3
    towards = np.array([rng.uniform(-1, 1), rng.uniform(-1, 0.1), rng.uniform(-1, -0.15)])
    warm = np.array([1.0, rng.uniform(0.8, 1.05), rng.uniform(0.6, 1.15)])
    key = warm * rng.uniform(0.3, 1.0)
    ambient = rng.uniform(0.85, 1.15, 3) * rng.uniform(0.1, 0.6)
    nir_ambient = rng.uniform(0.05, 0.35) if outdoors else rng.uniform(0, 0.03)
    emitter, pulse = rng.uniform(0.6, 1.4), (0.0, 1.0)
    if rng.random() < 0.04:
        at = rng.uniform(0.1, 0.9)
        pulse = (0.0, at) if rng.random() < 0.5 else (at, 1.0)
    if trouble == "night":
        dark = rng.uniform(0.004, 0.03)
        key, ambient, nir_ambient = key * dark, ambient * dark, 0.0
    elif trouble == "sun":
        key, nir_ambient = key * 2, rng.uniform(0.9, 1.5)
    elif trouble == "unlit":
        emitter, nir_ambient = 0.0, rng.uniform(0, 0.01)
    return Light(
        direction=(towards / np.linalg.norm(towards)).astype(np.float32),
        key=key.astype(np.float32),
        ambient=ambient.astype(np.float32),
        nir_ambient=float(nir_ambient),
        emitter=float(emitter),
        pulse=pulse,
        background=int(rng.integers(2**31)),
    )


def _view(rng: np.random.Generator) -> View:
    distance_m = rng.uniform(0.3, 1.2)
    focal_px = _HEAD_PX * distance_m / _HEAD_M * rng.uniform(0.85, 1.15)
    offset = rng.normal(0, 0.012, 2) * distance_m
    centre = np.array([offset[0], offset[1], distance_m], np.float32)
    middle = (SIZE_PX / 2, SIZE_PX / 2)
    return View(SIZE_PX, float(focal_px), middle, centre, np.eye(3, dtype=np.float32))


def _pose(rng: np.random.Generator) -> tuple[float, ...]:
    """Return yaw, pitch and roll in degrees: of a face, and alike of what is held before it."""
    yaw, pitch, roll = np.clip(rng.normal(0, (14, 9, 6)), -35, 35)
    return float(yaw), float(pitch), float(roll)


def _sheet(species: str, view: View, rng: np.random.Generator) -> Sheet:
    """Hold it so that the face shown in it is about as large as a head there would be."""
    distance_m = float(view.centre_m[2])
    is_bent = species.endswith("_b") or (species == HALF and rng.random() < 0.5)
    bend = float(rng.choice([-1, 1]) * rng.uniform(4, 11)) if is_bent else 0.0
    drape = float(max(0.0, rng.uniform(-0.5, 0.9))) if is_bent else 0.0
    before_m = rng.uniform(0.10, 0.16) if bend <= 0 else rng.uniform(0.13, 0.2)
    side_m = 0.40 * rng.uniform(0.85, 1.15)
    if species in SCREENS:
        before_m = rng.uniform(0.12, 0.3)
        side_m *= max(0.35, (distance_m - before_m) / distance_m)
    z = max(0.18, distance_m - before_m)
    centre = np.array([*(view.centre_m[:2] * z / distance_m), z], np.float32)
    return Sheet(centre, _rotation(*_pose(rng)), float(side_m), bend, drape)


def _shown_face(scene: _Scene, sheet: Sheet | None, view: View) -> Array:
    """Return px positions around the face that a detector would find."""
    if sheet is None or scene.photo is None:
        x, y = np.meshgrid([-0.068, 0.0, 0.068], [-0.1, 0.0, 0.068])
        points = np.stack([x.ravel(), y.ravel(), 0.06 + 0.03 * (x.ravel() == 0)], 1)
        return view.project(view.place(points.astype(np.float32)))
    corners = np.array([[x, y] for x in (-0.07, 0.07) for y in (-0.105, 0.07)])
    place = scene.photo.place(*corners.T) - 0.5
    local = np.concatenate([place * sheet.side_m, np.zeros((4, 1))], 1)
    local[:, 2] = sheet.bend / 2 * local[:, 0] ** 2
    return view.project((local @ sheet.turn.T + sheet.centre_m).astype(np.float32))


def _detected(corners: Array, rng: np.random.Generator) -> Box:
    """Return the box around points, as inexact as a face detector's."""
    low, high = corners.min(0), corners.max(0)
    extent = high - low
    low = low + extent * rng.normal(0, 0.03, 2)
    extent = extent * rng.normal(1.0, 0.04)
    x, y, w, h = (round(float(value), 1) for value in (*low, *extent))
    return x, y, max(8.0, w), max(8.0, h)


def _rotation(yaw: float, pitch: float, roll: float) -> Array:
    """Return the rotation by angles in degrees: about the vertical, the sideways, the view axis."""
    a, b, c = np.deg2rad([yaw, pitch, roll])
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    turn: Array = (about_y @ about_x @ about_z).astype(np.float32)
    return turn
