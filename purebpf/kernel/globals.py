"""The global variables of a loaded object, read and written while its programs run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from ..errors import ObjectError
from ..formats.abi import MapFlags
from ..formats.spec import VariableSpec
from .maps import Map

_ONLY_KEY = bytes(4)


class Globals:
    """The variables as attributes: `obj.globals.count += 1`; iteration gives their names.

    Values are as VariableSpec.value has them. A variable in mapped memory is read and written there, so that
    others of its section are left alone; of a kernel without mapped arrays (before 5.5) the whole section is
    rewritten. Raises AttributeError for unknown names, ObjectError for writing to .rodata, which is frozen.
    """

    _variables: Mapping[str, VariableSpec]
    _maps: Mapping[str, Map]

    def __init__(self, variables: Mapping[str, VariableSpec], maps: Mapping[str, Map]) -> None:
        vars(self).update(_variables=variables, _maps=maps)

    def __getattr__(self, name: str) -> Any:
        variable = self._variable(name)
        return variable.codec().decode(self._section(variable)[variable.offset : variable.offset + variable.size])

    def __setattr__(self, name: str, value: Any) -> None:
        variable = self._variable(name)
        if variable.map.read_only:
            raise ObjectError(
                f"variable {name!r} is constant since the object was loaded",
                hint=f"set it before: spec.variables[{name!r}].value = …",
            )
        encoded = variable.codec().encode(value)
        section, end = self._maps[variable.map.name], variable.offset + variable.size
        if variable.map.flags & MapFlags.MMAPABLE and section.spec.flags & MapFlags.MMAPABLE:
            section.memory()[variable.offset : end] = encoded
        else:
            whole = self._section(variable)
            section.put(_ONLY_KEY, whole[: variable.offset] + encoded + whole[end:])

    def _section(self, variable: VariableSpec) -> bytes:
        return self._maps[variable.map.name].lookup(_ONLY_KEY) or b""

    def _variable(self, name: str) -> VariableSpec:
        if name not in self._variables:
            close = get_close_matches(name, self._variables, 3)
            raise AttributeError(
                f"the object has no variable {name!r}" + (f"; close: {', '.join(close)}" if close else "")
            )
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __dir__(self) -> list[str]:
        return [*self._variables]
