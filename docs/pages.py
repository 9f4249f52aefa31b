"""What pages take from the code: options of commands, rules. `cog -I docs` runs it."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cog
import typer
import yaml
from spectra_cli.main import app
from spectra_cli.usage import argument_word, every, is_argument
from spectra_cli.usage import arguments as written

from spectra.distribution import address, version
from spectra.numbers import number

HERE = Path(__file__).parent
FIRST = "This command"
CLONE = "./.github/spectra"  # where a workflow finds the action while that has no address
CLONED = '"$SPECTRA"'  # before there is an address
SUBMODULES = "        with:\n          submodules: true # spectra is one, in .github/spectra\n"
WHERE = """\
The action is the repository of spectra itself, of which yours holds a clone, as a submodule for
example: `git submodule add CLONE .github/spectra`, where CLONE is where you got spectra from."""
ROLES = (
    "attn.q", "attn.k", "attn.v", "attn.o", "mlp.gate", "mlp.up", "mlp.down", "other",
)  # fmt: skip


def commands() -> None:
    """Write the table of all commands."""
    group: Any = typer.main.get_command(app)
    _lines(["", "| command | what it does |", "|---|---|"])
    for name, command in every(group):
        first = paragraphs(command.help)[0]
        cog.outl(f"| [`spectra {name}`](commands/{name.split()[0]}.md) | {_cell(first)} |")
    cog.outl("")


def command(name: str) -> None:
    """Write what one command is for, its arguments and its options."""
    group: Any = typer.main.get_command(app)
    one = dict(every(group))[name]
    arguments = [p for p in one.params if is_argument(p)]
    said = paragraphs(one.help)
    text = [p for p in said if not p.startswith("Example:")]
    _lines(["", *_spaced(text), "```text", f"spectra {name} {written(one.params)}", "```", ""])
    if arguments:
        _lines(["| argument | meaning |", "|---|---|"])
        words = [argument_word(one).replace("|", "\\|") for one in arguments]
        _lines(f"| `{word}` | {_cell(one.help)} |"
               for word, one in zip(words, arguments, strict=True))  # fmt: skip
        cog.outl("")
    panels: dict[str, list[Any]] = {FIRST: []}
    for option in one.params:
        if option not in arguments and not option.hidden:
            panels.setdefault(option.rich_help_panel or FIRST, []).append(option)
    for panel, options in panels.items():
        if options:
            _lines([f"**{panel}**", "", "| option | meaning | default |", "|---|---|---|"])
            _lines(_option(option) for option in options)
            cog.outl("")


def rules() -> None:
    """Write every rule, each under an anchor of its code."""
    from spectra.policy import RULES  # noqa: PLC0415 - takes torch

    _lines(["", "| code | name | severity | judges | needs |", "|---|---|---|---|---|"])
    for rule in RULES.values():
        code = f"[`{rule.code}`](#{rule.code.lower()})"
        cog.outl(
            f"| {code} | {rule.name} | {rule.severity} | {_cell(rule.summary)} | {rule.needs} |"
        )
    cog.outl("")
    for rule in RULES.values():
        anchor = f'<a id="{rule.code.lower()}"></a>'
        _lines([f"{anchor}", "", f"## {rule.code} {rule.name}", ""])
        asked = " · judges nothing until a policy sets one of its limits" if rule.asked else ""
        _lines(
            [
                f"*{rule.severity} · needs: {rule.needs}{asked}*",
                "",
                f"{rule.summary[:1].upper()}{rule.summary[1:]}.",
                "",
            ]
        )
        for title, text in rule.parts:
            _lines([f"**{title}.** {' '.join(text.split())}", ""])
        if rule.settings:
            _lines(["| setting | meaning | default |", "|---|---|---|"])
            _lines(
                f"| `{s.key}` | {_cell(s.help)} | {_default(s.default)} |" for s in rule.settings
            )
            cog.outl("")


def included(name: str, language: str) -> None:
    """Write a file that stands beside the pages."""
    _block(name, (HERE / name).read_text(), language)


def clone() -> None:
    """Write how to get it: by its address, or from where the reader found it."""
    home = address("Repository")
    if not home:
        _lines(["", "With `$SPECTRA` for the address or the folder where you read this:"])
    _lines(
        [
            "",
            "<!-- not run: the reader of the tests has it -->",
            "```bash",
            f"git clone {home or CLONED} spectra && cd spectra",
            "make demo",
            "```",
            "",
        ]
    )


def workflow() -> None:
    """Write the workflow for GitHub: with the action's address, or a clone where it has none."""
    text = (HERE / "github-workflow.yml").read_text()
    if home := address("Repository"):
        text = text.replace(SUBMODULES, "").replace(
            CLONE, f"{urlsplit(home).path.strip('/')}@v{version()}"
        )
    else:
        _lines(["", *WHERE.splitlines()])
    _block(".github/workflows/weights.yml", text)


def hook() -> None:
    """Write the configuration of pre-commit: by address, or the hook itself where there is none."""
    (manifest,) = yaml.safe_load((HERE.parent / ".pre-commit-hooks.yaml").read_text())
    own = {"id": manifest["id"], "args": ["release/"]}
    if home := address("Repository"):
        repository = {"repo": home, "rev": f"v{version()}", "hooks": [own]}
    else:
        repository = {"repo": "local", "hooks": [{**manifest, **own}]}
    text = yaml.safe_dump({"repos": [repository]}, sort_keys=False, width=100)
    _block(".pre-commit-config.yaml", text)


def _block(title: str, text: str, language: str = "yaml") -> None:
    """Write a file as a block."""
    _lines(["", f'```{language} title="{title}"', *text.rstrip().splitlines(), "```", ""])


def typical(*keys: str) -> None:
    """Write what the pictures' script measured of some keys, by role."""
    with (HERE / "pictures" / "typical.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["key"] in keys]
    models = list(dict.fromkeys(row["model"] for row in rows))
    for key in keys:
        _lines(["", f"`{key}`, median (least to greatest):", ""])
        _lines([f"| role | {' | '.join(models)} |", "|---" * (len(models) + 1) + "|"])
        found = {(row["role"], row["model"]): row for row in rows if row["key"] == key}
        for role in ROLES:
            cells = [_range(found.get((role, model))) for model in models]
            if any(cells):
                cog.outl(f"| {role} | {' | '.join(cells)} |")
    cog.outl("")


def _range(row: dict[str, str] | None) -> str:
    """Return median and range of one cell."""
    if row is None:
        return ""
    median, least, greatest = (_spelt(row[end]) for end in ("median", "least", "greatest"))
    return median + (f" ({least} to {greatest})" if least != greatest else "")


def _spelt(text: str) -> str:
    """Return a number as screens spell it; the file has three digits that matter."""
    plain = text.replace(",", "")
    return number(int(plain) if plain.isdecimal() else float(plain))


def _option(option: Any) -> str:  # noqa: ANN401 - typer's own
    """Return the row of one option."""
    names = ", ".join(f"`{name}`" for name in sorted(option.opts, key=len))
    value = f" `{option.metavar}`" if option.metavar and not option.is_flag else ""
    off = f", `{option.secondary_opts[0]}`" if option.secondary_opts else ""
    default = "" if option.is_flag or option.multiple else _default(option.default)
    return f"| {names}{off}{value} | {_cell(option.help)} | {default} |"


def _default(value: object) -> str:
    """Return a default as it would be typed."""
    if value is None or value == "" or callable(value):
        return ""
    if isinstance(value, tuple | list):
        return " ".join(f"`{part}`" for part in value)
    return f"`{value}`"


def paragraphs(text: str | None) -> list[str]:
    """Return the paragraphs of a help text, each one line."""
    return [" ".join(part.split()) for part in (text or "").split("\n\n")]


def _spaced(paragraphs: Iterable[str]) -> list[str]:
    """Put an empty line after each paragraph; what could be markup is none."""
    return [line for text in paragraphs for line in (_plain(text), "")]


def _cell(text: str | None) -> str:
    """Return a text that fits a cell of a table."""
    return _plain(" ".join((text or "").split())).replace("|", "\\|")


def _plain(text: str) -> str:
    """Take away what markdown would read as markup."""
    for sign in "*_<[":
        text = text.replace(sign, f"\\{sign}")
    return text


def _lines(lines: Iterable[str]) -> None:
    """Write lines."""
    for line in lines:
        cog.outl(line)
