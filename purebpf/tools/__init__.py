"""One file, one command: HELP, DESCRIPTION, add_arguments(parser), run(options)."""

from types import ModuleType

from . import inspect, probe, run, trace_exec

COMMANDS: dict[str, ModuleType] = {"trace-exec": trace_exec, "run": run, "inspect": inspect, "probe": probe}
