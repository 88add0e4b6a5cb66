"""The table that `make bench` prints, as `tests/src/bench/` writes it: one line as soon as its figures are there."""


class Figure:
    """A figure, how it is written, and whether more of it is better."""

    def __init__(self, value, text, more_is_better=False):
        self.value, self.text, self.more_is_better = value, text, more_is_better

    def better_than(self, other):
        above, below = (self.value, other.value) if self.more_is_better else (other.value, self.value)
        if not above or not below:
            return ""
        return f"{short(above / below)} x" if above >= below else f"{short(below / above)} x worse"


def short(value):
    """Two or three digits that say something."""
    digits = 0 if value >= 10 else 1 if value >= 1 else 2 if value >= 0.1 or value <= 0 else 3
    return f"{value:.{digits}f}"


def seconds(value):
    return Figure(value, f"{short(value * 1e3)} ms" if value < 1 else f"{short(value)} s")


def mebibytes(value):
    return Figure(value, f"{short(value)} MiB")


def percent(value):
    return Figure(value, f"{short(value)} %")


def megabytes_a_second(value):
    return Figure(value, f"{short(value)} MB/s", more_is_better=True)


def heading(title):
    print(f"\n{title}")
    print(f"  {'':<62} {'goal':>12} {'tractorun':>12}   {'beside it':<38} better", flush=True)


def note(text):
    print(f"  note: {text}", flush=True)


def row(what, ours, goal="", theirs=None, peer="", words=""):
    """A line; beside ours stands a peer's figure, or words."""
    beside = f"{theirs.text} {peer}" if theirs else words
    better = ours.better_than(theirs) if theirs else ""
    print(f"  {what:<62} {goal:>12} {ours.text:>12}   {beside:<38} {better}".rstrip(), flush=True)
