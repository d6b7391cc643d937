"""Say what is wrong with a command line that Hydra refuses: all of it, with the nearest names."""

from collections.abc import Callable, Mapping, Sequence

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import ConfigAttributeError, ConfigKeyError
from rich.console import Console

from scripts.command_line.composing import CommandLine

Explain = Callable[[BaseException], str]


def refusal_of(
    line: CommandLine, settings_of: Callable[[DictConfig], object], explain: Explain
) -> Exception | None:
    """Say which overrides Hydra refuses, and what is wrong with the settings that the rest make.

    Args:
        line: the command line.
        settings_of: raises what is wrong with a configuration.
        explain: says in one line what is wrong with an override.

    Returns:
        An error that says it all, or None if nothing is wrong.
    """
    with Console().status("loading torch and lightning"):
        from dal.settings import SettingsError

    sound = [line.search]
    refused: dict[str, Exception | None] = dict.fromkeys(line.overrides)
    with line.composing():
        tried: list[str] = []
        while [*refused] != tried:  # a key may exist once another override is there
            tried, refused = [*refused], {}
            for override in tried:
                choices, error = _tried(line.name, sound, override, sweep=line.sweep)
                sound += choices[:1]
                refused |= {} if error is None else {override: error}
        try:
            config = compose(line.name, sound, return_hydra_config=True)
        except HydraException as error:  # whatever is overridden
            return error
        lines = _refusals(refused, config, explain)
    HydraConfig.instance().set_config(config)
    with read_write(config), open_dict(config):
        del config["hydra"]
    try:
        if not line.sweep:  # each job of a sweep says its own
            settings_of(config)
    except SettingsError as error:
        lines += error.faults
    return SettingsError(lines) if lines else None


def _refusals(
    refused: Mapping[str, Exception | None], config: DictConfig, explain: Explain
) -> list[str]:
    absent = tuple(
        f"{override.partition('=')[0].rpartition('@')[2]}."
        for override, error in refused.items()
        if isinstance(error, MissingConfigException)
    )
    return [
        _refusal(override, error, config, explain)
        for override, error in refused.items()
        if error is not None and not override.startswith(absent)
    ]


def _tried(
    name: str, sound: Sequence[str], override: str, *, sweep: bool
) -> tuple[list[str], Exception | None]:
    """What an override stands for in the jobs of a sweep, or why one of them is refused."""
    try:
        (parsed,) = OverridesParser.create().parse_overrides([override])
        choices = [override]
        if sweep and parsed.is_sweep_override():
            key = parsed.get_key_element()
            choices = [f"{key}={value}" for value in parsed.sweep_string_iterator()]
        for choice in choices:
            compose(name, [*sound, choice])
    except Exception as error:
        return [], error
    return choices, None


def _refusal(override: str, error: Exception, config: DictConfig, explain: Explain) -> str:
    """Say in one line why Hydra refuses an override, with the nearest key that it would take."""
    from dal.settings import is_node, names_of, unknown

    cause = error.__cause__ or error
    group, _, value = override.partition("=")
    loader = GlobalHydra.instance().config_loader()
    options = loader.get_group_options(group.lstrip("+").partition("@")[0])
    if value == "null" and options:
        return f"{group} cannot be null; there are: {', '.join(options)}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        within = error.missing_cfg_file.rpartition("/")[0]
        error.options = loader.get_group_options(within)  # Hydra has none for a list of them
    if not isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return explain(error)
    parent, _, name = str(cause.full_key).rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if node is None and parent in config:
        return f"{cause.full_key} cannot be set: {parent} is null"
    if name in loader.get_group_options(parent):
        return f"{cause.full_key} is not chosen; add {parent}={name}, or '{parent}=[{name},...]'"
    more = names_of(node["_target_"]) if is_node(node) else []
    if name in more or (isinstance(node, DictConfig) and not node):
        return f"{cause.full_key} is not in the configuration; add it by +{cause.full_key}=..."
    return unknown(name, [*(node or config), *more], parent if node else "")
