"""What the documents contain: their examples, command lines, links, and the names in code type."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks/README.md", *sorted((ROOT / "docs").glob("*.md"))]
RECIPES = sorted((ROOT / "recipes").glob("*/README.md"))

FENCED = re.compile(r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?[^\n]*\n(?P<text>.*?)^```$", re.M | re.S)
INDENTED = re.compile(r"^(?: {4}[^\n]*\n)+", re.M)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A block of code between lines of ```."""

    page: Path
    language: str
    title: str | None  # the file that the block is the content of
    text: str


def name_of(page: Path) -> str:
    """How a test names a page."""
    return page.relative_to(ROOT).as_posix()


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[Block]:
    """The blocks of a page that are in a language."""
    found = FENCED.finditer(read(page))
    return [Block(page, language, m["title"], m["text"]) for m in found if m["language"] == language]


def files_of_pages() -> dict[str, str]:
    """The files that the pages show in full, by name."""
    return {block.title: block.text for page in PAGES for block in blocks(page, "python") if block.title}


def inline_code(page: Path) -> list[str]:
    """What stands in code type within the text, each in one line."""
    prose = FENCED.sub("", read(page))
    return [" ".join(code.split()) for code in INLINE.findall(prose)]


def shell_lines(page: Path) -> list[str]:
    """The lines of indented blocks, and the code within the text, without comments; continued lines are joined."""
    prose = FENCED.sub("", read(page))
    lines = [line for block in INDENTED.findall(prose) for line in block.replace("\\\n", " ").splitlines()]
    return [" ".join(line.split(" #")[0].split()) for line in [*lines, *inline_code(page)]]


def command_lines(program: str, pages: list[Path]) -> list[str]:
    """The command lines of a program, such as zfaudio, in all pages."""
    lines = {line for page in pages for line in shell_lines(page)}
    starts = re.compile(rf"(?:torchrun .* -m )?{re.escape(program)} (?P<rest>.+)")
    return sorted({found["rest"] for line in lines if (found := starts.fullmatch(line))})
