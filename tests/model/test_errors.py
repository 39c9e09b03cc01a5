"""The tree of errors, as drawn, is the tree that there is."""

import ast
from pathlib import Path

import model.errors

ROOT = Path(model.errors.__file__).parent


def test_the_tree_draws_each_error_where_it_is() -> None:
    drawn = {
        line.split("+-- ")[1].split()[0]: line.split("+-- ")[1].split()[1].rstrip(",")
        for line in (model.errors.__doc__ or "").splitlines()
        if "+-- " in line
    }
    found, roots = {}, {"ModelError"}
    trees = {path: ast.parse(path.read_text()) for path in ROOT.rglob("*.py")}
    for _ in range(3):  # as deep as the tree is
        for path, tree in trees.items():
            module = ".".join(("model", *path.relative_to(ROOT).with_suffix("").parts))
            for each in ast.walk(tree):
                bases = {
                    base.id for base in getattr(each, "bases", []) if isinstance(base, ast.Name)
                }
                if isinstance(each, ast.ClassDef) and bases & roots:
                    roots.add(each.name)
                    found[each.name] = module
    assert drawn.keys() == found.keys()
    # Below a root of its own, a class has what it means beside it instead of where it is.
    named = {name: module for name, module in drawn.items() if module.startswith("model.")}
    assert named == {name: found[name] for name in named}
    assert len(named) > 10
