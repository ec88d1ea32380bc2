"""The configuration: one TOML file, the environment and the command line, with where each value came from.

Lowest to highest: built-in default, KUBECONFIG and the K8S_* variables (as upstream), the file,
`OVNKIT_<SECTION>__<KEY>`, the command line.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from ovnkit.api.config import Config
from ovnkit.api.errors import ConfigError, OvnkitError, did_you_mean
from ovnkit.config.checks import check_config
from ovnkit.config.values import key_of, structure

DEFAULT_PATH = "/etc/ovnkit/ovnkit.toml"
PREFIX = "OVNKIT_"

_KUBERNETES_VARIABLES = {
    "KUBECONFIG": "kubeconfig",
    "K8S_APISERVER": "apiserver",
    "K8S_CACERT": "cacert",
    "K8S_TOKEN": "token",
    "K8S_TOKEN_FILE": "token-file",
}
"""Variables upstream reads; like there, the file outranks them."""

BUILT_IN = "built-in default"


@frozen
class Origin:
    """Where a value came from: `source` is built-in, file, environment or command line; `name` says which."""

    source: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.source} {self.name}".strip() if self.source != "file" else self.name


@frozen
class Setting:
    """One value somebody set."""

    section: str
    key: str
    value: Any
    origin: Origin

    @property
    def textual(self) -> bool:
        """Whether the value is text to be parsed, as opposed to a TOML value."""
        return self.origin.source != "file"


@frozen
class Override:
    """A value from the command line; `flag` is what the user typed (`--set`, `--zone`)."""

    section: str
    key: str
    value: str
    flag: str = "--set"

    @classmethod
    def parse(cls, text: str) -> Override:
        """The override of `--set section.key=value`; raises ConfigError."""
        name, equals, value = text.partition("=")
        section, dot, key = name.strip().partition(".")
        if not (equals and dot and section and key):
            raise ConfigError(f"--set {text}: write it as section.key=value")
        return cls(section, key, value.strip())


@frozen
class Loaded:
    """The effective configuration, where each value came from by (section, key), and remarks for the log."""

    config: Config
    origins: Mapping[tuple[str, str], Origin]
    path: Path | None
    remarks: tuple[str, ...] = ()

    def origin(self, section: str, key: str) -> Origin:
        """Where the value of an option came from."""
        return self.origins.get((section, key), Origin(BUILT_IN))


@frozen
class _Sections:
    """The classes of all sections by name; `broken` are plugins whose options nobody knows, and why."""

    classes: Mapping[str, type]
    plugins: frozenset[str]
    broken: Mapping[str, str] = field(factory=dict)

    def keys(self, section: str) -> dict[str, attrs.Attribute[Any]]:
        return {key_of(item.name): item for item in attrs.fields(self.classes[section]) if item.init}


def core_sections() -> dict[str, type]:
    """The classes of the core's own sections by name."""
    return {
        item.name: type(getattr(_DEFAULTS, item.name))
        for item in attrs.fields(Config)
        if item.init and item.name != "plugin_options"
    }


_DEFAULTS = Config()

_VALIDATOR_SUBJECT = re.compile(r"'(\w+)' ")
"""How the messages of attrs' validators begin: with the attribute's name."""


def load_config(
    path: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Sequence[Override] = (),
    plugin_options: Mapping[str, type] | None = None,
    broken_plugins: Mapping[str, str] | None = None,
) -> Loaded:
    """The effective configuration; raises ConfigError with one line that names the key and its origin.

    `path` None means the default file, which may be absent. `plugin_options` are the plugins' classes of
    options by section; sections of `broken_plugins` are passed over with a remark.
    """
    options = dict(plugin_options or {})
    sections = _Sections({**options, **core_sections()}, frozenset(options), dict(broken_plugins or {}))
    file = _file(path)
    variables = environ or {}
    settings = [
        *_kubernetes_variables(variables),
        *_file_settings(file, sections),
        *_variables(variables, sections),
        *(Setting(o.section, o.key, o.value, Origin("command line", o.flag)) for o in overrides),
    ]
    remarks, effective = [], {}
    for setting in settings:
        if setting.section in sections.broken and setting.section not in sections.classes:
            remarks.append(f"{setting.origin}: section [{setting.section}] is not read: its plugin failed to load")
            continue
        _check_known(setting, sections)
        effective[(setting.section, setting.key)] = setting
    config = _build(effective, sections)
    origins = {name: setting.origin for name, setting in effective.items()}
    check_config(config, {name: str(origin) for name, origin in origins.items()})
    return Loaded(config, origins, file, tuple(dict.fromkeys(remarks)))


def _file(path: str | None) -> Path | None:
    if path is None:
        return Path(DEFAULT_PATH) if Path(DEFAULT_PATH).exists() else None
    if not Path(path).is_file():
        raise ConfigError(f"{path}: the configuration file doesn't exist")
    return Path(path)


def _file_settings(file: Path | None, sections: _Sections) -> Iterable[Setting]:
    if file is None:
        return
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: can't be read: {error}") from None
    origin = Origin("file", str(file))
    for section, table in content.items():
        if not isinstance(table, dict):
            homes = [name for name in sections.classes if section in sections.keys(name)]
            home = f": it belongs under [{homes[0]}]" if homes else ""
            raise ConfigError(f"{file}: {section}: a key outside any section{home}")
        if not table and section not in sections.broken:
            _check_section(section, origin, sections)
        for key, value in table.items():
            yield Setting(section, key, value, origin)


def _kubernetes_variables(environ: Mapping[str, str]) -> Iterable[Setting]:
    for variable, key in _KUBERNETES_VARIABLES.items():
        if environ.get(variable):
            yield Setting("kubernetes", key, environ[variable], Origin("environment", variable))


def _variables(environ: Mapping[str, str], sections: _Sections) -> Iterable[Setting]:
    known = {name.replace("-", "_").upper(): name for name in [*sections.broken, *sections.classes]}
    for variable in sorted(environ):
        section, separator, key = variable.removeprefix(PREFIX).partition("__")
        if not variable.startswith(PREFIX) or not separator:
            continue
        name = known.get(section.upper(), section.lower())
        yield Setting(name, key_of(key.lower()), environ[variable], Origin("environment", variable))


def _check_section(section: str, origin: Origin, sections: _Sections) -> None:
    if section not in sections.classes:
        hint = did_you_mean(section, sections.classes) or "; no plugin with this name and options is installed"
        raise ConfigError(f"{origin}: unknown section [{section}]{hint}")


def _check_known(setting: Setting, sections: _Sections) -> None:
    _check_section(setting.section, setting.origin, sections)
    keys = sections.keys(setting.section)
    if setting.key in keys:
        return
    hint = did_you_mean(setting.key, keys)
    homes = [name for name in sections.classes if setting.key in sections.keys(name)]
    if homes and not hint:
        hint = f"; it belongs to [{homes[0]}]"
    raise ConfigError(f"{setting.origin}: unknown key {setting.key!r} in section [{setting.section}]{hint}")


def _build(settings: Mapping[tuple[str, str], Setting], sections: _Sections) -> Config:
    built = {name: _section(name, settings, sections) for name in sections.classes}
    core = {name: built[name] for name in core_sections()}
    return Config(**core, plugin_options={name: built[name] for name in sections.plugins})


def _section(name: str, settings: Mapping[tuple[str, str], Setting], sections: _Sections) -> Any:
    cls = sections.classes[name]
    try:
        attrs.resolve_types(cls)
    except NameError as error:
        raise ConfigError(f"[{name}]: the options class {cls.__name__} can't be read: {error}") from None
    values: dict[str, Any] = {}
    given: dict[str, Setting] = {}
    for key, attribute in sections.keys(name).items():
        setting = settings.get((name, key))
        if setting is None:
            continue
        given[attribute.name] = setting
        try:
            values[attribute.alias or attribute.name] = structure(
                setting.value, attribute.type, textual=setting.textual
            )
        except ValueError as error:
            raise ConfigError(f"{setting.origin}: [{name}] {key}: {error}") from None
    return _construct(name, cls, values, given)


def _construct(name: str, cls: type, values: Mapping[str, object], given: Mapping[str, Setting]) -> Any:
    """The section's object; a validator's complaint becomes one line that names the key it is about."""
    try:
        return cls(**values)
    except (ValueError, TypeError, OvnkitError) as error:
        text = str(error.args[0]) if error.args else str(error)
        match = _VALIDATOR_SUBJECT.match(text)
        setting = given.get(match[1]) if match else None
        if match and setting is not None:
            problem = f"{setting.origin}: [{name}] {setting.key}: {text[match.end() :]}"
        else:
            where = next((item.origin for item in given.values()), Origin(BUILT_IN))
            problem = f"{where}: [{name}]: {text}"
        raise ConfigError(problem) from None
