"""`openai-proxy output`: the outputs of the stack, one value or all, for people and for `$(…)` in a shell."""

import argparse
from collections.abc import Mapping

from console.arguments import known
from console.stack import add_stack_option, stack_name, stack_outputs
from console.text import to_json


def add_output(output: argparse.ArgumentParser) -> None:
    """Give `output` its options."""
    output.description = 'Prints an output of the stack, as in "$(openai-proxy output RecordCostQueueUrl)", or all.'
    output.add_argument("name", nargs="?", metavar="NAME", help="such as KeysTable; default: all of them")
    output.add_argument("--json", action="store_true", help="print JSON, for programs")
    add_stack_option(output)
    output.set_defaults(run=_run)


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    outputs = {"StackName": stack_name(options, environ), **stack_outputs(options, environ)}
    if options.name is None:
        print(to_json(outputs) if options.json else "\n".join(f"{name}={outputs[name]}" for name in sorted(outputs)))
        return 0
    known(options.name, outputs, "Output", "`openai-proxy output` shows all, and a part that is off has none")
    print(to_json({options.name: outputs[options.name]}) if options.json else outputs[options.name])
    return 0
