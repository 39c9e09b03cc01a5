"""The account of a run: each frame once, whatever order its news come in."""

import random
from collections import Counter

import pytest

from loadtest.account import account_of_counts
from loadtest.book import Book
from loadtest.counts import Kind

WARM_UP_S, DEADLINE_S, LOAD_S = 10.0, 3.0, 20.0


def book() -> Book:
    return Book(WARM_UP_S, DEADLINE_S)


def account(of: Book) -> dict[str, object]:
    return account_of_counts(of.counts, len(of.lost()), LOAD_S, WARM_UP_S)


def test_a_decision_finds_its_frame_by_entry_before_and_after_the_reply() -> None:
    of = book()
    first, second = of.due(11.0, Kind.BONA_FIDE), of.due(11.5, Kind.ATTACK)
    for number in (first, second):
        of.begin(number)
    assert of.added(first, "0 1-0") is None
    assert of.find(None, "0 1-0", "bad_signature", 12.0) == first  # a replica could not read it
    assert of.decide(first, "bad_signature", 12.0) == pytest.approx(1.0)
    assert of.find(None, "0 2-0", "attack", 12.0) is None  # the decision was read first
    assert of.added(second, "0 2-0") == ("attack", 12.0, None)
    assert of.decide(second, "attack", 12.0) == pytest.approx(0.5)
    assert of.num_open == 0
    assert of.lost() == []


def test_a_decision_by_seq_that_comes_before_the_reply_is_no_second_one() -> None:
    of = book()
    number = of.due(11.0, Kind.BONA_FIDE)
    of.begin(number)
    assert of.find(number, "0 1-0", "bona_fide", 11.2) == number
    of.decide(number, "bona_fide", 11.2)
    of.added(number, "0 1-0")
    assert (of.num_open, of.counts.doubled) == (0, 0)
    assert of.find(number, "0 1-0", "bona_fide", 11.3) == number
    assert of.decide(number, "bona_fide", 11.3) is None
    assert of.counts.doubled == 1


def test_of_a_frame_and_its_copy_one_gets_the_verdict_and_a_second_is_a_breach() -> None:
    of = book()
    original = of.due(11.0, Kind.COPIED)
    copy = of.due(11.0, Kind.DUPLICATE, copy_of=original)
    again = of.due(11.0, Kind.REPLAY, copy_of=original)
    for number, entry in ((original, "0 1-0"), (copy, "0 2-0")):
        of.begin(number)
        of.added(number, entry)
    assert of.find(original, "0 2-0", "bona_fide", 11.1) == copy  # the copy was first
    of.decide(copy, "bona_fide", 11.1)
    of.decide(original, "replayed", 11.1)
    assert of.counts.breaches == 0
    of.begin(again)
    of.added(again, "0 3-0")
    of.decide(again, "bona_fide", 11.2)
    assert of.counts.breaches == 1


@pytest.mark.parametrize("kind", [Kind.CUT, Kind.OVERSIZE, Kind.FORGED])
def test_a_door_that_opens_on_what_must_not_open_it_is_a_breach(kind: Kind) -> None:
    of = book()
    number = of.due(11.0, kind)
    of.begin(number)
    of.added(number, "0 1-0")
    of.decide(number, "bona_fide", 11.1)
    assert of.counts.breaches == 1


def test_a_lost_reply_whose_frame_arrived_is_found_at_the_end() -> None:
    of = book()
    number, gone = of.due(11.0, Kind.CUT), of.due(11.0, Kind.BONA_FIDE)
    for each in (number, gone):
        of.begin(each)
        of.lost_sight(each)
    assert of.find(None, "0 1-0", "malformed", 11.5) is None
    of.close()
    told = account(of)
    assert (told["unknown"], told["unknown_arrived"], told["decided"]) == (2, 1, 1)
    assert told["strangers"] == told["lost"] == 0


def test_what_nobody_here_sent_is_a_stranger() -> None:
    of = book()
    assert of.find(7, "0 1-0", "attack", 11.0) is None
    assert of.find(None, "0 2-0", "malformed", 11.0) is None
    of.close()
    assert of.counts.strangers == 2


def test_every_sum_holds_however_the_news_come() -> None:
    draw = random.Random(3)
    of = book()
    numbers = [of.due(draw.uniform(0, LOAD_S), draw.choice(list(Kind)[:3])) for _ in range(3000)]
    decided: Counter[int] = Counter()
    for number in numbers:
        fate = draw.random()
        if fate < 0.1:
            of.drop(number)
            continue
        of.begin(number)
        if fate < 0.15:
            of.refuse(number)
        elif fate < 0.2:
            of.lost_sight(number)
            if draw.random() < 0.5:
                of.decide(number, "expired", 30.0)
                decided[number] += 1
        else:
            of.added(number, f"0 {number}-0")
            if draw.random() < 0.99:
                of.decide(number, "bona_fide", 30.0)
                decided[number] += 1
    of.close()
    told = account(of)
    assert told["due"] == 3000
    parts = ("acknowledged", "dropped", "unknown", "refused")
    assert told["due"] == sum(told[part] for part in parts)  # type: ignore[misc]
    arrived = told["acknowledged"] + told["unknown_arrived"]  # type: ignore[operator]
    assert arrived == told["decided"] + told["lost"]  # type: ignore[operator]
    assert told["decided"] == decided.total()
    assert of.num_open == told["lost"]


def test_what_was_found_by_entry_and_what_had_copies_is_forgotten() -> None:
    of = book()
    for number in range(0, 30_000, 3):
        at_s = number / 100
        broken, original = of.due(at_s, Kind.CUT), of.due(at_s, Kind.COPIED)
        copy = of.due(at_s, Kind.DUPLICATE, copy_of=original)
        for each, said in ((broken, "malformed"), (original, "bona_fide"), (copy, "replayed")):
            of.begin(each)
            of.added(each, f"0 {each}-0")
            seq = None if each == broken else original
            assert of.find(seq, f"0 {each}-0", said, at_s + 0.1) == each
            of.decide(each, said, at_s + 0.1)
        if number == 3:  # a second decision on a broken frame is found, for a while
            assert of.find(None, f"0 {broken}-0", "malformed", at_s + 1) == broken
            assert of.decide(broken, "malformed", at_s + 1) is None
        of.find(None, f"9 {number}-0", "malformed", at_s)  # of somebody else's
    assert of.counts.doubled == 1
    assert of.counts.breaches == 0
    assert of.num_bytes < 10 * 30_000 + 200 * (2 * 60 * 100 + 10_000)
    of.close()
    assert of.counts.strangers == 10_000
    assert of.num_open == 0


def test_memory_is_a_few_bytes_a_frame_once_frames_are_settled() -> None:
    of = book()
    for number in range(200_000):
        of.due(number / 1e4, Kind.BONA_FIDE)
        of.begin(number)
        of.added(number, f"0 {number}-0")
        at = of.find(number, f"0 {number}-0", "bona_fide", number / 1e4 + 0.1)
        assert at == number
        of.decide(number, "bona_fide", number / 1e4 + 0.1)
    assert of.num_bytes < 5 * 200_000
    assert of.lost() == []
