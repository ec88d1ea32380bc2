"""Calling hooks plugin by plugin: a failure has a name, is counted, and stops nobody else."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Concatenate

import pluggy
import structlog

from ovnkit.api.errors import ConfigError, HostError, Reject, Retry, did_you_mean
from ovnkit.api.hooks import PROJECT, Hooks
from ovnkit.api.world import P, T

log = structlog.get_logger()

_DELIBERATE = (Reject, Retry, ConfigError, HostError)
"""What a plugin raises on purpose, for the caller of the hook."""


class InvalidPlugin(Exception):
    """A plugin whose hook implementations don't fit the specification."""


class Calls:
    """The façade over pluggy. `active()` names the plugins to ask, in order; it is read at each call.

    Implements `ovnkit.api.hooks.HookCalls`. Thread-safe: registration ends before calls begin.
    """

    def __init__(self, active: Callable[[], Sequence[str]]) -> None:
        self._active = active
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Hooks)
        self._callers: dict[str, dict[str, Callable[..., Any]]] = {}
        """By hook and plugin."""
        self._firstresult = frozenset(
            name
            for name, hook in self._manager.hook.__dict__.items()
            if isinstance(hook, pluggy.HookCaller) and hook.spec and hook.spec.opts.get("firstresult")
        )
        self.failures: Counter[tuple[str, str]] = Counter()
        """How often a plugin raised in a hook, by (plugin, hook)."""

    def register(self, name: str, instance: object) -> None:
        """Add a plugin; raises InvalidPlugin if it implements a hook that doesn't exist, or wrongly."""
        self._check(instance)
        try:
            self._manager.register(instance, name=name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise InvalidPlugin(" ".join(str(error).split())) from None
        callers = self._manager.get_hookcallers(instance) or []
        for caller in callers:
            self._callers.setdefault(caller.name, {})[name] = self._only(caller, instance)

    def _check(self, instance: object) -> None:
        """Say of an implementation that fits no hook which one was meant; pluggy needs many lines for it."""
        specified = hook_names()
        for name in dir(instance):
            if self._manager.parse_hookimpl_opts(instance, name) is None:
                if name in specified and getattr(getattr(instance, name), "__func__", None) is not specified[name]:
                    raise InvalidPlugin(f"{name} is not marked with @hookimpl: it would never be called")
                continue
            if name not in specified:
                raise InvalidPlugin(f"there is no hook {name!r}{did_you_mean(name, specified)}")
            known = list(inspect.signature(specified[name]).parameters)[1:]
            try:
                taken = inspect.signature(getattr(instance, name)).parameters
            except ValueError:
                raise InvalidPlugin(f"{name}: it is a method, its first argument is self") from None
            for argument in taken:
                if argument not in known:
                    has = f"it has {', '.join(known)}" if known else "it has none"
                    hint = did_you_mean(argument, known)
                    raise InvalidPlugin(f"{name}: the hook has no argument {argument!r}{hint or '; ' + has}")

    def _only(self, caller: pluggy.HookCaller, instance: object) -> Callable[..., Any]:
        """A call of one plugin's implementation; made on first use, when everyone has been registered."""

        subset: list[pluggy.HookCaller] = []

        def call(**arguments: object) -> Any:
            if not subset:
                others = [plugin for plugin in self._manager.get_plugins() if plugin is not instance]
                subset.append(self._manager.subset_hook_caller(caller.name, others))
            answer = subset[0](**arguments)
            if caller.name not in self._firstresult:
                answer = answer[0] if answer else None
            return list(answer) if isinstance(answer, Iterator) else answer

        return call

    def implements(self, plugin: str, hook: Callable[..., object]) -> bool:
        """Whether a plugin has an implementation of a hook."""
        return plugin in self._callers.get(hook.__name__, ())

    def call(
        self, plugin: str, hook: Callable[Concatenate[Any, P], T | None], *_: P.args, **arguments: P.kwargs
    ) -> T | None:
        """One plugin's answer, None if it doesn't implement the hook; raises what it raises."""
        answer: T | None = self._call(plugin, hook.__name__, arguments)
        return answer

    def _call(self, plugin: str, hook: str, arguments: Mapping[str, object]) -> Any:
        caller = self._callers.get(hook, {}).get(plugin)
        return None if caller is None else caller(**arguments)

    def attempt(
        self, plugin: str, hook: Callable[Concatenate[Any, P], T | None], *_: P.args, **arguments: P.kwargs
    ) -> tuple[T | None, Exception | None]:
        """One plugin's answer and the exception it failed with, logged and counted."""
        return self._attempt(plugin, hook.__name__, arguments, _DELIBERATE)

    def _attempt(
        self, plugin: str, hook: str, arguments: Mapping[str, object], passing: tuple[type[Exception], ...]
    ) -> tuple[Any, Exception | None]:
        try:
            return self._call(plugin, hook, arguments), None
        except passing:
            raise
        except Exception as error:
            self.failures[(plugin, hook)] += 1
            log.exception("plugin failed in a hook", plugin=plugin, hook=hook)
            return None, error

    def each(
        self, hook: Callable[Concatenate[Any, P], T | None], *_: P.args, **arguments: P.kwargs
    ) -> list[tuple[str, T]]:
        """All active plugins' answers as (plugin, answer); those that failed or passed are left out."""
        return self._each(hook.__name__, arguments, _DELIBERATE)

    def observe(
        self, hook: Callable[Concatenate[Any, P], T | None], *_: P.args, **arguments: P.kwargs
    ) -> list[tuple[str, T]]:
        """`each` for callers that only observe: what a plugin raises on purpose is a failure, too."""
        return self._each(hook.__name__, arguments, ())

    def _each(
        self, hook: str, arguments: Mapping[str, object], passing: tuple[type[Exception], ...]
    ) -> list[tuple[str, Any]]:
        answers = []
        for plugin in self._asked(hook):
            answer, _error = self._attempt(plugin, hook, arguments, passing)
            if answer is not None:
                answers.append((plugin, answer))
        return answers

    def _asked(self, hook: str) -> Sequence[str]:
        """Active plugins that implement a hook. Nobody implements some that are called for each pod."""
        callers = self._callers.get(hook)
        return [plugin for plugin in self._active() if plugin in callers] if callers else ()

    def first(
        self, hook: Callable[Concatenate[Any, P], T | None], *_: P.args, **arguments: P.kwargs
    ) -> tuple[str, T] | None:
        """The first answer that is not None, with the plugin's name."""
        for plugin in self._asked(hook.__name__):
            answer, _error = self._attempt(plugin, hook.__name__, arguments, _DELIBERATE)
            if answer is not None:
                return plugin, answer
        return None


def hook_names() -> Mapping[str, Callable[..., Any]]:
    """The hook specifications by name."""
    return {name: spec for name, spec in vars(Hooks).items() if name.startswith(f"{PROJECT}_")}
