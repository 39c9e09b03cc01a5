"""What the account of a long run takes: `python -m tests.loadtest.book_memory 10_000_000`.

Frames come at 5,000 a second and are decided 0.2 s later; one in fifty is broken, has a copy, or
loses its reply. Prints a line of JSON each tenth of the way.
"""

import json
import os
import sys
import time
from collections import deque

from loadtest.book import Book
from loadtest.counts import Kind
from loadtest.seen import rss_mb

FPS, DECIDED_S = 5000.0, 0.2


def decide(book: Book, at_s: float, number: int, seq: int | None, said: str) -> None:
    if (found := book.find(seq, f"0 {number}-0", said, at_s)) is not None:
        book.decide(found, said, at_s)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    book = Book(0.0, 3.0)
    under_way: deque[tuple[float, int, int | None, str]] = deque()
    before_mb, began_s = rss_mb(os.getpid()), time.process_time()
    for step in range(count):
        at_s = step / FPS
        odd = step % 150
        kind = {0: Kind.CUT, 50: Kind.COPIED}.get(odd, Kind.BONA_FIDE)
        number = book.due(at_s, kind)
        sent = [(number, None if kind is Kind.CUT else number)]
        if kind is Kind.COPIED:
            sent.append((book.due(at_s, Kind.DUPLICATE, copy_of=number), number))
        for each, seq in sent:
            book.begin(each)
            if odd == 100:
                book.lost_sight(each)
            else:
                book.added(each, f"0 {each}-0")
            said = {0: "malformed", 50: "bona_fide" if each == number else "replayed"}
            under_way.append((at_s, each, seq, said.get(odd, "bona_fide")))
        while under_way and under_way[0][0] <= at_s - DECIDED_S:
            decide(book, at_s, *under_way.popleft()[1:])
        if (step + 1) % (count // 10) == 0:
            grown_mb = rss_mb(os.getpid()) - before_mb
            told = {
                "frames": book.size,
                "rss_mb": round(grown_mb, 1),
                "bytes_a_frame": round(grown_mb * 2**20 / book.size, 2),
                "book_mb": round(book.num_bytes / 2**20, 1),
                "us_a_frame": round((time.process_time() - began_s) * 1e6 / (step + 1), 2),
            }
            print(json.dumps(told), flush=True)
    for _, *decision in under_way:
        decide(book, count / FPS + DECIDED_S, *decision)
    book.close()
    lost = len(book.lost())
    counts = book.counts
    print(json.dumps({"lost": lost, "doubled": counts.doubled, "breaches": counts.breaches}))


if __name__ == "__main__":
    main()
