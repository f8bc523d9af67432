"""Patterns of paths that can be turned round: text, and groups that the replacement repeats.

`^block_(\\d+)/` with `layers/\\1/` takes `block_3/kernel` to `layers/3/kernel`; the inverse takes
it back by `^layers/(\\d+)/` with `block_\\1/`.
"""

import dataclasses
import re

SPECIAL = set(".^$*+?{}[]|)")
REFERENCE = re.compile(r"\\(?:g<(\d+)>|(\d))")


@dataclasses.dataclass(frozen=True)
class Pattern:
    """Texts and groups in turn; a group is written with its parentheses."""

    parts: tuple[str, ...]  # texts at even places, groups at odd ones
    start: bool
    end: bool

    @property
    def groups(self) -> tuple[str, ...]:
        return self.parts[1::2]

    def search(self, path: str) -> re.Match[str] | None:
        texts = [part if i % 2 else re.escape(part) for i, part in enumerate(self.parts)]
        return re.search("^" * self.start + "".join(texts) + "$" * self.end, path)


def parse(text: str) -> Pattern:
    """Reads a regular expression whose special characters all stand in groups."""
    start = text.startswith("^")
    body = text[1:] if start else text
    end = body.endswith("$") and not body.endswith("\\$")
    body = body[:-1] if end else body
    parts = [""]
    i = 0
    while i < len(body):
        if body[i] == "(":
            close = _end_of_group(body, i, text)
            parts += [body[i:close], ""]
            i = close
        elif body[i] == "\\" and i + 1 < len(body) and not body[i + 1].isalnum():
            parts[-1] += body[i + 1]
            i += 2
        elif body[i] in SPECIAL or body[i] == "\\":
            raise ValueError(
                f"the pattern {text!r} has {body[i]!r} outside of a group, so it cannot be turned "
                "round; put it into parentheses and repeat that group, or escape it"
            )
        else:
            parts[-1] += body[i]
            i += 1
    _check_groups(parts[1::2], text)
    return Pattern(tuple(parts), start, end)


def _check_groups(groups: list[str], text: str) -> None:
    for group in groups:
        try:
            compiled = re.compile(group)
        except re.error as error:
            raise ValueError(f"the pattern {text!r} is no regular expression: {error}") from None
        if compiled.groups != 1:
            raise ValueError(f"the pattern {text!r} has a group in a group or none; write (...)")


def _end_of_group(body: str, start: int, text: str) -> int:
    depth, i, in_class = 0, start, False
    while i < len(body):
        if body[i] == "\\":
            i += 1
        elif in_class:
            in_class = body[i] != "]"
        elif body[i] == "[":
            in_class = True
        elif body[i] in "()":
            depth += 1 if body[i] == "(" else -1
            if depth == 0:
                return i + 1
        i += 1
    raise ValueError(f"the pattern {text!r} has a parenthesis that is not closed")


@dataclasses.dataclass(frozen=True)
class Replacement:
    """Texts and numbers of groups in turn."""

    texts: tuple[str, ...]
    numbers: tuple[int, ...]

    def fill(self, groups: tuple[str, ...]) -> str:
        filled = [groups[number - 1] for number in self.numbers]
        return "".join(a + b for a, b in zip(self.texts, (*filled, ""), strict=True))


def parse_replacement(text: str, pattern: Pattern, where: str) -> Replacement:
    """Reads a replacement, which repeats each group of its pattern once."""
    texts, numbers, end = [], [], 0
    for match in REFERENCE.finditer(text):
        texts.append(text[end : match.start()])
        numbers.append(int(match[1] or match[2]))
        end = match.end()
    texts.append(text[end:])
    if sorted(numbers) != list(range(1, len(pattern.groups) + 1)):
        raise ValueError(
            f"{where}: {text!r} must repeat each of the {len(pattern.groups)} groups of its "
            "pattern once, as \\1, \\2, ...; else the rule has no inverse"
        )
    return Replacement(tuple(texts), tuple(numbers))


def inverse(pattern: Pattern, replacement: Replacement) -> tuple[Pattern, Replacement]:
    """What takes the results back."""
    parts = [replacement.texts[0]]
    for number, text in zip(replacement.numbers, replacement.texts[1:], strict=True):
        parts += [pattern.groups[number - 1], text]
    places = tuple(replacement.numbers.index(n) + 1 for n in range(1, len(pattern.groups) + 1))
    turned = Pattern(tuple(parts), pattern.start, pattern.end)
    return turned, Replacement(pattern.parts[0::2], places)


def substitute(path: str, pattern: Pattern, replacement: Replacement) -> str:
    """The path with the first match replaced, or as it is."""
    match = pattern.search(path)
    if match is None:
        return path
    return path[: match.start()] + replacement.fill(match.groups()) + path[match.end() :]
