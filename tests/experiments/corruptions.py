"""What may have happened to the rows of an experiment, so that its verdict must turn over.

Each makes a function that changes rows in place. `where` says which rows: those whose fields have a
value, or one of a tuple of values; all of them without it.
"""


def _found(rows, where):
    found = [
        row
        for row in rows
        if all(
            row.get(name) in (value if isinstance(value, tuple) else (value,))
            for name, value in where.items()
        )
    ]
    assert found, f"no row has {where}: the corruption changes nothing"
    return found


def change(values, **where):
    """Sets fields, to values or to functions of their row."""

    def apply(rows):
        for row in _found(rows, where):
            row |= {name: value(row) if callable(value) else value
                    for name, value in values.items()}  # fmt: skip

    return apply


def swap(field, first, second, **where):
    """Gives the rows of one method (size, task, ...) the name of another, and those its own."""
    names = {first: second, second: first}
    return change({field: lambda row: names[row[field]]}, **{field: (first, second)}, **where)


def drop(**where):
    """Leaves rows out."""

    def apply(rows):
        gone = [id(row) for row in _found(rows, where)]
        rows[:] = [row for row in rows if id(row) not in gone]

    return apply
