"""The scripts that the server runs, in `scripts/`."""

from pathlib import Path

_SCRIPTS = Path(__file__).parent / "scripts"


def script_text(name: str) -> str:
    """Return a script as the server takes it, with what it includes."""
    # allow-oom: a commit frees memory; a full server refuses the cameras, never the commit.
    flags = "allow-oom,no-writes" if name == "backlog" else "allow-oom"
    parts = ["window", name] if name in ("commit", "admit") else [name]
    texts = [(_SCRIPTS / f"{part}.lua").read_text(encoding="ascii") for part in parts]
    return f"#!lua flags={flags}\n" + "".join(texts)
