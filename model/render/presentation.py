"""One presentation before a camera, drawn from a seed: who, what, where, in which light."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.planes import Box, square_around
from model.render import people, sensors
from model.render.attacks import (
    BACK,
    HALF,
    HAND,
    MASKS,
    PRINTS,
    SCREENS,
    Shown,
    show_print,
    show_screen,
)
from model.render.hands import Flesh, Hand, put_hand, raised
from model.render.holding import behind_m, hands, hold
from model.render.lights import TROUBLES, Trouble, draw_light, draw_trouble
from model.render.masks import MaskedSkin, draw_mask
from model.render.photo import Photo
from model.render.rays import Array
from model.render.scene import Solid, shoot
from model.render.sheets import Sheet
from model.render.skin import Paint
from model.render.view import Light, Picture, View

__all__ = ["SIZE_PX", "TROUBLES", "Crop", "RenderedFrame", "Trouble", "present"]

SIZE_PX = 160
# Height of a head in the frame, px, and of the average head, m; how far its face is before its
# middle.
_HEAD_PX = 100.0
_HEAD_M = 0.25
_FACE_M = 0.085
_HAND_BESIDE = 0.2
# What a detector finds of a face: x, y and z on the average head, m.
_FOUND = np.array(
    [[x, y, 0.06 + 0.03 * (x == 0)] for x in (-0.068, 0.0, 0.068) for y in (-0.1, 0.0, 0.068)],
    np.float32,
)


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
    """All of a presentation that stays the same from frame to frame.

    Attributes:
        species: what it is.
        light: around.
        view: with the person's head at rest.
        face_m: (3,) where the middle of the face is, or of what is taken for one.
        pose: of the head, deg.
        camera: its sensors.
        solid: the person's shape.
        paint: the person's surface.
        glasses: whose glasses are worn.
        held: what is held before the person.
        photo: what that shows.
        hands: in the frame of what is held, or of the head.
        flesh: what hands reflect.
    """

    species: str
    light: Light
    view: View
    face_m: Array
    pose: tuple[float, ...]
    camera: sensors.Camera
    solid: Solid
    paint: Paint
    glasses: int | None
    held: Sheet | None
    photo: Photo | None
    hands: tuple[Hand, ...]
    flesh: Flesh


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
    drawn = draw_trouble(rng)
    trouble = drawn if trouble is None else trouble
    scene = _scene(species, subject, target, seed, trouble, rng)
    blur_px = _blur_px(crop, rng)
    for _ in range(num_frames):
        turn = _rotation(*(np.array(scene.pose) + rng.normal(0, 1.0, 3)))
        sway = rng.normal(0, 0.003, 3).astype(np.float32)
        view = replace(scene.view, turn=turn, centre_m=scene.view.centre_m + sway)
        held = scene.held and replace(scene.held, centre_m=scene.held.centre_m + 0.7 * sway)
        box = _detected(_found(scene, held, view), rng)
        if crop is not None:
            square = square_around(box, crop.margin)
            view = view.window(square, crop.size)
            scale = crop.size / square[2]
            box = tuple(  # type: ignore[assignment] # four, as before
                (value - offset) * scale
                for value, offset in zip(box, (*square[:2], 0, 0), strict=True)
            )
        picture = _picture(scene, held, view, seed)
        light, camera, face_px = scene.light, scene.camera, max(box[2:])
        picture.nir = sensors.registered(picture.nir, camera.ir_off, face_px)
        depth = sensors.depth_mm(picture, camera.depth, light, view.focal_px, rng)
        yield RenderedFrame(
            rgb=sensors.colour(picture, camera.rgb, blur_px, rng),
            depth=sensors.registered(depth, camera.depth_off, face_px, is_depth=True),
            ir=sensors.infrared(picture, camera.ir, blur_px, light.nir_ambient, rng),
            face_box=box,
            about=_about(scene, trouble),
        )


def _scene(
    species: str, subject: int, target: int, seed: int, trouble: Trouble, rng: np.random.Generator
) -> _Scene:
    light, look = draw_light(trouble, rng), seed % people.NUM_LOOKS
    face_m, focal_px = _place(rng)
    yaw, pitch, roll = _pose(rng)
    held, photo = None, None
    around: tuple[Hand, ...] = ()
    centre_m = face_m + np.array([0, 0, _FACE_M])
    if species in (*PRINTS, HALF, *SCREENS):
        photo = people.photo(target, look)
        held = hold(species, face_m, _rotation(*_pose(rng)), rng)
        centre_m = face_m + behind_m(held, species, rng)
        around = tuple(hands(held, species, rng))
    elif species == HAND:
        centre_m = face_m + np.array([*rng.normal(0, 0.1, 2), rng.uniform(0.2, 0.6)])
        around = (raised(rng).centred(),)
    elif rng.random() < _HAND_BESIDE:
        around = (raised(rng),)
    if species == BACK:
        yaw += 180 + rng.uniform(-35, 35)
    middle = (SIZE_PX / 2, SIZE_PX / 2)
    centre_m = centre_m.astype(np.float32)
    glasses = people.glasses(subject, rng)
    solid, paint = people.solid(subject, look), people.paint(subject, look)
    if species in MASKS:
        solid, paint = _masked(species, subject, target, look, seed)
    return _Scene(
        species=species,
        light=light,
        view=View(SIZE_PX, focal_px, middle, centre_m, np.eye(3, dtype=np.float32)),
        face_m=face_m,
        pose=(yaw, pitch, roll),
        camera=sensors.draw_camera(rng),
        solid=solid,
        paint=paint,
        glasses=None if glasses is None else subject,
        held=held,
        photo=photo,
        hands=around,
        flesh=people.flesh(subject),
    )


def _masked(species: str, subject: int, target: int, look: int, seed: int) -> tuple[Solid, Paint]:
    """Return shape and surface of a person who wears another's face."""
    worn = people.headwear(subject, look)
    mask = draw_mask(species, worn, np.random.default_rng([seed, 6]))
    shape = mask.put_on(people.head(target, look, is_bare=True), people.head(subject, look))
    under, over = people.paint(subject, look), people.bare_paint(target)
    return Solid(shape), MaskedSkin(mask, over, under)


def _picture(scene: _Scene, held: Sheet | None, view: View, seed: int) -> Picture:
    glasses = None if scene.glasses is None else np.random.default_rng([scene.glasses, 7])
    person = partial(shoot, scene.solid, scene.paint, view, scene.light, glasses)
    turn, middle = view.facing, view.centre_m
    if held is None or scene.photo is None:
        picture = person()
        if scene.species == HAND:
            middle = scene.face_m
    else:
        show = show_screen if scene.species in SCREENS else show_print
        shown = Shown(scene.species, scene.photo, held, view, scene.light, person)
        picture = show(shown, np.random.default_rng([seed, 5]))
        turn, middle = held.turn, held.centre_m
    for hand in scene.hands:
        put_hand(picture, hand.moved(turn, middle), scene.flesh, view, scene.light)
    return picture


def _found(scene: _Scene, held: Sheet | None, view: View) -> Array:
    """Return px positions around the face that a detector would find."""
    if held is not None and scene.photo is not None:
        return view.project(held.shown(scene.photo, _FOUND))
    if scene.species == HAND:
        (hand,) = scene.hands
        return view.project(hand.moved(view.facing, scene.face_m).joints())
    return view.project(view.place(_FOUND))


def _about(scene: _Scene, trouble: Trouble) -> dict[str, Any]:
    depth = scene.camera.depth
    return {
        "sensor": depth.sensor,
        "fill": depth.fill,
        "trouble": trouble,
        "distance_m": round(float(scene.face_m[2]), 3),
        "pose_deg": [round(angle, 1) for angle in scene.pose],
        "emitter": round(scene.light.emitter, 3),
        "nir_ambient": round(scene.light.nir_ambient, 3),
        "glasses": scene.glasses is not None,
    }


def _blur_px(crop: Crop | None, rng: np.random.Generator) -> float:
    """Return the blur of a camera that saw the face on fewer px than the crop has."""
    if crop is None:
        return float(rng.uniform(0.4, 0.9))
    return max(0.4, float(0.77 * crop.size / (1 + 2 * crop.margin) / rng.uniform(70, 200)))


def _place(rng: np.random.Generator) -> tuple[Array, float]:
    """Return where the face is, (3,) m, and the focal length, px: alike for all that is shown."""
    distance_m = rng.uniform(0.3, 1.2)
    focal_px = _HEAD_PX * distance_m / _HEAD_M * rng.uniform(0.85, 1.15)
    offset = rng.normal(0, 0.012, 2) * distance_m
    return np.array([*offset, distance_m], np.float32), float(focal_px)


def _pose(rng: np.random.Generator) -> tuple[float, ...]:
    """Return yaw, pitch and roll in degrees: of a face, and alike of what is held before it."""
    yaw, pitch, roll = np.clip(rng.normal(0, (14, 9, 6)), -35, 35)
    return float(yaw), float(pitch), float(roll)


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
