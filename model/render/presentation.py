"""One presentation before a camera, drawn from a seed: who, what, where, in which light."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from model.planes import Box
from model.render import sensors
from model.render.attacks import (
    MASKS,
    PRINTS,
    SCREENS,
    Photo,
    Sheet,
    photograph,
    show_print,
    show_screen,
)
from model.render.heads import Head, make_head
from model.render.rays import Array
from model.render.scene import Light, Picture, View, shoot
from model.render.skin import Skin, make_skin

SIZE_PX = 160
# Height of a head in the frame, px, and of the average head, m.
_HEAD_PX = 100.0
_HEAD_M = 0.25
_NUM_PHOTOS = 3
_NUM_EXPRESSIONS = 5


@dataclass(frozen=True)
class RenderedFrame:
    """What a camera sends, before encoding.

    Attributes:
        rgb: (160, 160, 3) uint8.
        depth: (160, 160) uint16 mm, 0 = hole.
        ir: (160, 160) uint8.
        face_box: (x, y, w, h) px, as a detector would give it.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.uint16]
    ir: NDArray[np.uint8]
    face_box: Box


@dataclass(frozen=True)
class Identity:
    """A person: shape and surface come from the number alone."""

    number: int

    def head(self, expression: np.random.Generator) -> Head:
        """Return this person's head with an expression."""
        return make_head(np.random.default_rng([self.number, 1]), expression)

    def skin(self) -> Skin:
        """Return this person's skin."""
        return make_skin(np.random.default_rng([self.number, 2]))


def present(
    species: str, subject: int, target: int, seed: int, num_frames: int = 1
) -> Iterator[RenderedFrame]:
    """Yield consecutive frames of one presentation.

    Args:
        species: `bona_fide`, or one of `model.render.attacks.SPECIES`.
        subject: the person before the camera.
        target: the person that an attack shows; ignored for `bona_fide`.
        seed: of everything else.
        num_frames: how many; the person moves a little from one to the next.
    """
    rng = np.random.default_rng([seed, 3])
    attacker = Identity(subject)
    shown = Identity(target)
    mask = species in MASKS
    person = shown if mask else attacker
    head, skin = _head(person.number, seed % _NUM_EXPRESSIONS), person.skin()
    light, sensor = _light(rng), sensors.DEPTH_SENSORS[int(rng.integers(2))]
    view = _view(rng)
    photo = _photo(target, seed % _NUM_PHOTOS) if species in (*PRINTS, *SCREENS) else None
    distance_m = float(view.centre_m[2])
    pose = rng.normal(0, (6, 6, 3))
    sheet = _sheet(species, distance_m, view, rng)
    plastic = float(rng.uniform(0.6, 1.0)) if mask else 0.0
    for _ in range(num_frames):
        moved = replace(
            view,
            turn=_rotation(*(np.rad2deg(_angles(view.turn)) + rng.normal(0, 1.0, 3))),
            centre_m=view.centre_m + rng.normal(0, 0.003, 3).astype(np.float32),
        )
        if photo is None:
            picture = shoot(head, skin, moved, light, plastic)
            corners = _face(head, moved)
        else:
            upright = replace(moved, turn=_rotation(*pose))
            picture = shoot(head, skin, upright, light)
            sway = rng.normal(0, 0.002, 3).astype(np.float32)
            held = replace(sheet, centre_m=sheet.centre_m + sway)
            show = show_print if species in PRINTS else show_screen
            picture = show(species, photo, picture, held, moved, light, seed)
            corners = _face_on(held, photo.view, moved)
        yield _sense(picture, sensor, _detected(corners, rng), rng)


@lru_cache(maxsize=512)
def _photo(target: int, number: int) -> Photo:
    """Return one of a few pictures that attackers have of a target."""
    person = Identity(target)
    head = person.head(np.random.default_rng([target, number, 5]))
    return photograph(head, person.skin(), target * _NUM_PHOTOS + number)


@lru_cache(maxsize=512)
def _head(number: int, expression: int) -> Head:
    """Return one of a few faces that a person makes."""
    return Identity(number).head(np.random.default_rng([number, expression, 4]))


def _sense(
    picture: Picture, sensor: sensors.DepthSensor, box: Box, rng: np.random.Generator
) -> RenderedFrame:
    return RenderedFrame(
        rgb=sensors.colour(picture, rng),
        depth=sensors.depth_mm(picture, sensor, rng),
        ir=sensors.infrared(picture, rng),
        face_box=box,
    )


def _light(rng: np.random.Generator) -> Light:
    outdoors = rng.random() < 0.3
    towards = np.array([rng.uniform(-1, 1), rng.uniform(-1, 0.1), rng.uniform(-1, -0.15)])
    warm = np.array([1.0, rng.uniform(0.8, 1.05), rng.uniform(0.6, 1.15)])
    strength = rng.uniform(0.3, 1.0)
    return Light(
        direction=(towards / np.linalg.norm(towards)).astype(np.float32),
        key=(warm * strength).astype(np.float32),
        ambient=(rng.uniform(0.85, 1.15, 3) * rng.uniform(0.1, 0.6)).astype(np.float32),
        nir_ambient=float(rng.uniform(0.05, 0.35)) if outdoors else float(rng.uniform(0, 0.03)),
        emitter=float(rng.uniform(0.7, 1.3)) if rng.random() < 0.97 else 0.0,
        background=int(rng.integers(2**31)),
    )


def _view(rng: np.random.Generator) -> View:
    distance_m = rng.uniform(0.3, 1.2)
    focal_px = _HEAD_PX * distance_m / _HEAD_M * rng.uniform(0.85, 1.15)
    offset = rng.normal(0, 0.012, 2) * distance_m
    turn = _rotation(
        float(np.clip(rng.normal(0, 14), -35, 35)),
        float(np.clip(rng.normal(0, 9), -35, 35)),
        float(rng.normal(0, 6)),
    )
    centre = np.array([offset[0], offset[1], distance_m], np.float32)
    return View(SIZE_PX, float(focal_px), centre, turn)


def _sheet(species: str, distance_m: float, view: View, rng: np.random.Generator) -> Sheet:
    """Hold it so that the face shown in it is about as large as a head there would be."""
    bend = float(rng.choice([-1, 1]) * rng.uniform(4, 11)) if species.endswith("_b") else 0.0
    before_m = rng.uniform(0.10, 0.16) if bend <= 0 else rng.uniform(0.13, 0.2)
    side_m = 0.40 * rng.uniform(0.9, 1.1)
    if species in SCREENS:
        before_m = rng.uniform(0.12, 0.3)
        side_m *= max(0.35, (distance_m - before_m) / distance_m)
    z = max(0.18, distance_m - before_m)
    centre = np.array([*(view.centre_m[:2] * z / distance_m), z], np.float32)
    turn = _rotation(*rng.normal(0, (10, 8, 5)))
    return Sheet(centre, turn, float(side_m), bend)


def _face(head: Head, view: View) -> Array:
    """Return px positions of the face's front, from chin to hairline."""
    where = head.template
    is_face = (where[:, 2] > 0.02) & (where[:, 1] > -0.105) & (where[:, 1] < 0.07)
    return view.project(view.place(head)[is_face])


def _face_on(sheet: Sheet, photo: View, view: View) -> Array:
    """Return px positions of the corners of the face that a sheet shows."""
    corners = np.array([[x, y, -0.05] for x in (-0.07, 0.07) for y in (-0.07, 0.105)], np.float32)
    place = photo.project(corners + photo.centre_m) / photo.size - 0.5
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


def _angles(turn: Array) -> Array:
    """Return yaw, pitch, roll in radians: the inverse of `_rotation`."""
    return np.array(
        [
            np.arctan2(turn[0, 2], turn[2, 2]),
            np.arcsin(np.clip(-turn[1, 2], -1, 1)),
            np.arctan2(turn[1, 0], turn[1, 1]),
        ],
        np.float32,
    )
