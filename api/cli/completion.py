"""`xferq completion`: a script by which a shell completes commands, options and their values, without asking xferq."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal, get_args, get_origin

import typer


class Shell(StrEnum):
    """The shells that are served."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@dataclass(frozen=True, slots=True)
class _Option:
    names: Sequence[str]
    about: str
    takes_value: bool
    choices: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Command:
    name: str
    about: str
    options: Sequence[_Option]
    choices: Sequence[str]
    """Values of its argument, where these are known."""


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", show_default=False)],
) -> None:
    """Print a script by which a shell completes xferq's commands and options.

    Examples: `xferq completion bash > ~/.local/share/bash-completion/completions/xferq`,
    `xferq completion zsh > ~/.zfunc/_xferq` (a folder in zsh's fpath),
    `xferq completion fish > ~/.config/fish/completions/xferq.fish`
    """
    scripts: dict[Shell, Callable[[Sequence[_Command]], Iterator[str]]] = {
        Shell.BASH: _bash,
        Shell.ZSH: _zsh,
        Shell.FISH: _fish,
    }
    for line in scripts[shell](list(_commands())):
        print(line)


def _commands() -> Iterator[_Command]:
    from api.cli import add_command, commands  # which imports this module

    everything = typer.Typer()
    for name in commands():
        add_command(everything, name)
    group: Any = typer.main.get_command(everything)
    for name, command in group.commands.items():
        params = [param for param in command.params if not getattr(param, "hidden", False)]
        about = (command.help or "").partition("\n")[0]
        options = [_option(param) for param in params if param.opts[0].startswith("-")]
        options.append(_Option(["--help"], "Show this message and exit.", False, []))
        choices = [choice for param in params if not param.opts[0].startswith("-") for choice in _choices(param)]
        yield _Command(name, about, options, choices)


def _option(param: Any) -> _Option:
    about = (param.help or "").partition("\n")[0]
    return _Option(param.opts, about, not param.is_flag and not param.count, _choices(param))


def _choices(param: Any) -> Sequence[str]:
    kind = getattr(getattr(param, "type_descriptor", None), "annotation", None)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(member.value) for member in kind]
    return [str(value) for value in get_args(kind)] if get_origin(kind) is Literal else []


def _bash(commands: Sequence[_Command]) -> Iterator[str]:
    """Files where nothing else fits (`-o default`)."""
    yield "_xferq() {"
    yield '  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command="" words="" i'
    yield "  for ((i = 1; i < COMP_CWORD; i++)); do"
    yield "    if [[ ${COMP_WORDS[i]} != -* ]]; then command=${COMP_WORDS[i]}; break; fi"
    yield "  done"
    yield '  case "$command $before" in'
    for command in commands:
        for option in command.options:
            if option.choices:
                patterns = "|".join(shlex.quote(f"{command.name} {name}") for name in option.names)
                yield f"    {patterns}) words={shlex.quote(' '.join(option.choices))} ;;"
    free = [(command.name, option.names) for command in commands for option in command.options if option.takes_value]
    yield f"    {'|'.join(shlex.quote(f'{command} {name}') for command, names in free for name in names)}) ;;"
    yield '    *) case "$command:$word" in'
    yield f"      :*) words={shlex.quote(' '.join(['--help', '--version', *(one.name for one in commands)]))} ;;"
    for command in commands:
        names = [name for option in command.options for name in option.names]
        yield f"      {command.name}:-*) words={shlex.quote(' '.join(names))} ;;"
        if command.choices:
            yield f"      {command.name}:*) words={shlex.quote(' '.join(command.choices))} ;;"
    yield "    esac ;;"
    yield "  esac"
    yield '  COMPREPLY=($(compgen -W "$words" -- "$word"))'
    yield "}"
    yield "complete -o default -F _xferq xferq"


def _zsh(commands: Sequence[_Command]) -> Iterator[str]:
    yield "#compdef xferq"
    yield "_xferq() {"
    yield "  if (( CURRENT == 2 )); then"
    yield "    local -a commands=("
    for command in commands:
        yield f"      {shlex.quote(command.name + ':' + command.about)}"
    yield "    )"
    yield "    _describe command commands"
    yield "    return"
    yield "  fi"
    yield "  shift words"
    yield "  (( CURRENT-- ))"
    yield "  case $words[1] in"
    for command in commands:
        specs = [_zsh_spec(name, option) for option in command.options for name in option.names]
        specs.append(f"*: :{_zsh_values(command.choices)}")
        yield f"    {command.name}) _arguments {' '.join(map(shlex.quote, specs))} ;;"
    yield "  esac"
    yield "}"
    yield 'if [[ $funcstack[1] == _xferq ]]; then _xferq "$@"; else compdef _xferq xferq; fi'


def _zsh_spec(name: str, option: _Option) -> str:
    about = "".join(f"\\{char}" if char in "[]:\\" else char for char in option.about)
    value = f":value:{_zsh_values(option.choices)}" if option.takes_value else ""
    return f"*{name}[{about}]{value}"


def _zsh_values(choices: Sequence[str]) -> str:
    return f"({' '.join(choices)})" if choices else "_files"


def _fish(commands: Sequence[_Command]) -> Iterator[str]:
    for command in commands:
        yield f"complete -c xferq -f -n __fish_use_subcommand -a {command.name} -d {_fish_quoted(command.about)}"
        within = f"complete -c xferq -n '__fish_seen_subcommand_from {command.name}'"
        if command.choices:
            yield f"{within} -f -a '{' '.join(command.choices)}'"
        for option in command.options:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            value = f" -x -a '{' '.join(option.choices)}'" if option.choices else " -r" * option.takes_value
            yield f"{within} {names}{value} -d {_fish_quoted(option.about)}"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
