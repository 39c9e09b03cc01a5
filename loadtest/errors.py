"""The root of this package's errors: a source, a scenario or a run that can't be used.

    LoadtestError
    +-- SampleError       loadtest.samples
    +-- SourceError       loadtest.sources

The command shows each of them in one line; the message says what is wrong and what to do.
"""


class LoadtestError(Exception):
    """Something that the person at the keyboard, or whoever sent it, can mend."""
