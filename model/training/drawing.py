"""Which samples an epoch shows: more of the attacks that are still missed.

Most attacks are recognised after a few epochs. To be shown all of them again and again would leave
the last ones, such as masks, a small part of the time.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import Dataset

# Loss that a species counts for at least: one that is always recognised is not to be forgotten.
_LEAST_LOSS = 0.05


def draw(
    dataset: Dataset, attack_loss: Mapping[str, float], *, composes: bool, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the rows of an epoch.

    Args:
        dataset: what is trained on.
        attack_loss: mean loss of each species in the epoch before; empty in the first.
        composes: whether bona fide samples are made into attacks, at random.
        rng: draws them.

    Returns:
        (N,) row numbers, int64, in no useful order; N is the number of samples, and once more that
        of bona fide ones if `composes`: what becomes an attack must not be missed among the few.
    """
    bona_fide = np.flatnonzero(dataset.label == 1)
    chosen = [bona_fide] * (2 if composes else 1)
    by_species: dict[str, list[int]] = {}
    for row in np.flatnonzero(dataset.label == 0).tolist():
        by_species.setdefault(dataset.species[row], []).append(row)
    num_attacks = len(dataset) - len(bona_fide)
    share = {
        species: len(rows) * (attack_loss.get(species, 0.0) + _LEAST_LOSS)
        for species, rows in by_species.items()
    }
    for species, rows in by_species.items():
        count = round(num_attacks * share[species] / sum(share.values()))
        again, rest = divmod(count, len(rows))
        chosen += [np.array(rows)] * again
        chosen.append(rng.choice(rows, rest, replace=False))
    return np.concatenate(chosen).astype(np.int64)
