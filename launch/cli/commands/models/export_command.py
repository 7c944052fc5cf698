"""`basinet export`: write a trained model to a file."""

import argparse

from basinet.launch.cli.output import DONE, say
from basinet.launch.results import export
from basinet.sim.experiment.component import ExperimentError

__all__ = ["execute"]


def execute(options: argparse.Namespace) -> int:
    """Carry out the command; return the exit status."""
    if options.out is None:
        raise ExperimentError("FILE: a file is needed, such as model.safetensors or model.pt")
    state = export(
        options.folder,
        options.out,
        options.replica,
        options.agent,
        merge=options.merge,
        transformers=options.transformers,
    )
    how = "; torch.load reads it with weights_only=True"
    if options.transformers:
        how = "; from_pretrained of transformers reads it"
    elif options.out.suffix == ".safetensors":
        how = ""
    say(f"model: {options.out} ({len(state)} tensors{how})")
    return DONE
