"""The settings of the study of flatness and optimization: digits, and photographs at full scale."""

from typing import Any

from basinet.analysis.studies.flatness_tradeoff.claims import SEED
from basinet.analysis.studies.flatness_tradeoff.settings import Departure, Family, Regime, Setting, Variant

__all__ = ["CIFAR10", "CIFAR100", "CIFAR100_WRN", "DIGITS"]

_SQUARED = {"task.loss": "squared_error"}
_CLEAN = {"task.label_noise": 0.0}
_FACTORS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
_LENGTHS = (0.1, 0.2, 0.4, 0.8, 1.5)


def _digits(batch: int, rate: float, samples: int = 8000) -> Regime:
    """Return a regime in which an agent sees a given number of samples; the learning rate grows with the batch."""
    return Regime(batch=batch, lr=rate * batch, steps=samples // batch)


DIGITS = Setting(
    name="digits",
    about=(
        "Digits: a network of 1810 parameters, 448 training samples with a fifth of the labels wrong, and 16 agents on "
        "a ring that all see all samples, unless stated otherwise. Learning rates grow with the batch; an agent sees "
        "8,000 samples from random starts."
    ),
    task={"name": "digits", "train_size": 448, "label_noise": 0.2, "partition": "shared"},
    model={"name": "mlp", "hidden": [24], "activation": "tanh"},
    schedule={"name": "step", "milestones": [0.8]},
    departures=(
        Departure(
            name="cross-entropy",
            teacher=Regime(batch=16, lr=0.5, steps=625),
            regimes=(_digits(2, 1 / 16, 2000), _digits(8, 1 / 16, 2000)),
            level=0.1,
            factors=_FACTORS,
            rest=Regime(batch=28, lr=0.5, steps=600),
        ),
        Departure(
            name="squared error, shards",
            keys=_SQUARED | {"task.partition": "iid"},
            teacher=Regime(batch=16, lr=0.1, steps=2000),
            regimes=(_digits(1, 1 / 40, 2000), _digits(4, 1 / 40, 4000)),
            level=0.02,
            every=5,
            factors=_FACTORS,
            rest=Regime(batch=28, lr=0.1, steps=600),
        ),
        Departure(
            name="squared error, clean labels",
            keys=_SQUARED | _CLEAN,
            teacher=Regime(batch=16, lr=0.1, steps=2000),
            regimes=(_digits(1, 1 / 20, 2000), _digits(4, 1 / 20, 4000)),
            level=0.01,
            every=5,
            factors=_FACTORS,
            rest=Regime(batch=28, lr=0.2, steps=600),
        ),
    ),
    families=(
        Family(
            name="cross-entropy",
            regimes=(_digits(2, 1 / 8), _digits(8, 1 / 8), _digits(16, 1 / 8)),
            factors=(0.5, 1.0, 2.0, 4.0),
            topologies=("ring", "exponential"),
            lengths=(0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5),
        ),
        Family(
            name="squared error",
            keys=_SQUARED,
            regimes=(_digits(2, 1 / 20), _digits(4, 1 / 20)),
            factors=(0.5, 1.0, 2.0),
            lengths=_LENGTHS,
        ),
    ),
    variants=(
        Variant(name="clean labels", regime=_digits(16, 1 / 8, 4000), keys=_CLEAN, lengths=_LENGTHS),
        Variant(name="clean labels, small steps", regime=_digits(16, 1 / 32, 4000), keys=_CLEAN, lengths=_LENGTHS),
        Variant(name="clean labels, large steps", regime=_digits(16, 1 / 4, 4000), keys=_CLEAN, lengths=_LENGTHS),
        Variant(name="shards", regime=_digits(16, 1 / 8), keys={"task.partition": "iid"}, lengths=_LENGTHS),
        Variant(
            name="shards of unlike classes",
            regime=_digits(16, 1 / 8),
            keys={"task.partition": {"name": "dirichlet", "alpha": 0.3}},
            lengths=_LENGTHS,
        ),
        Variant(
            name="gradients of whole shards",
            regime=Regime(batch=28, lr=1.0, steps=1000),
            keys={"task.partition": "iid", "sampling": "epochs"},
            lengths=_LENGTHS,
        ),
        Variant(
            name="four agents",
            regime=Regime(batch=64, lr=1.0, steps=250),
            keys={"topology.agents": 4},
            lengths=_LENGTHS,
        ),
        Variant(  # all strategies coincide, so no control is needed
            name="gradients of all data, the same for all",
            regime=Regime(batch=448, lr=0.1, steps=100),
            keys={"sampling": "epochs"},
        ),
    ),
    replicas=16,
    seed=SEED,
    experiment={"evaluate_every": 10**9},
)


def _cifar(name: str, about: str, path: str, label: str, model: dict[str, Any]) -> Setting:
    # The nearest published trainings: 6,000 steps of plain SGD on a ring of 16 agents, learning rates of 0.1 for 64
    # images an agent and 0.8 for 512, a tenth of it after 40 % and after 80 % of the steps, a warm-up of 60 (T. Zhu et
    # al.: Decentralized SGD and average-direction SAM are asymptotically equivalent, ICML 2023, arXiv:2306.02913).
    small, large = Regime(batch=64, lr=0.1, steps=6000), Regime(batch=512, lr=0.8, steps=6000)
    lengths = (0.25, 0.5, 0.75, 1.0)
    task: dict[str, Any] = {
        "name": "huggingface", "path": path, "image": "img", "label": label, "normalize": True,
        "partition": "iid", "augmentation": "shift_flip",
    }  # fmt: skip
    return Setting(
        name=name,
        about=(
            f"{about}: 16 agents on a ring, among which the images are divided; total batches of 1,024 and 8,192, "
            "with learning rates that grow with the batch."
        ),
        task=task,
        model=model,
        schedule={"name": "step", "milestones": [0.4, 0.8], "warmup": 60},
        departures=(
            Departure(
                name="cross-entropy",
                teacher=small,
                regimes=(Regime(batch=64, lr=0.01, steps=2000), Regime(batch=512, lr=0.08, steps=2000)),
                level=0.1,
                every=100,
                factors=(1.0, 2.0, 4.0, 8.0),
                # At the first learning rate of the teacher, so that other strategies may rest at its minimum.
                # One pass over 3,125 images keeps tens of GiB of activations.
                rest=Regime(batch=3125, lr=0.1, steps=300),
                rest_keys={"task.augmentation": None},
            ),
        ),
        families=(
            Family(
                name="cross-entropy",
                regimes=(small, large),
                factors=(0.5, 1.0, 2.0),
                topologies=("ring", "torus", "exponential"),
                lengths=lengths,
            ),
        ),
        variants=(
            Variant(name="images that all share", regime=large, keys={"task.partition": "shared"}, lengths=lengths),
            Variant(name="squared error", regime=small, keys=_SQUARED, lengths=lengths),
        ),
        replicas=3,
        seed=SEED,
        # The analysis uses a fixed subset of the images, in the dtype of the training.
        experiment={
            "sampling": "epochs",
            "evaluate_every": 500,
            "analysis_samples": 10_000,
            "analysis_dtype": "float32",
            "analysis_memory": 16_384,
            "runtime": {"engine": "loop"},
        },
    )


_RESNET = {"name": "resnet", "norm": "group"}
_WIDE = {"name": "wide_resnet", "depth": 16, "widen_factor": 8, "norm": "group"}

CIFAR10 = _cifar("CIFAR-10", "CIFAR-10 and a ResNet-18", "uoft-cs/cifar10", "label", _RESNET)
CIFAR100 = _cifar("CIFAR-100", "CIFAR-100 and a ResNet-18", "uoft-cs/cifar100", "fine_label", _RESNET)
CIFAR100_WRN = _cifar("CIFAR-100, WRN-16-8", "CIFAR-100 and a WRN-16-8", "uoft-cs/cifar100", "fine_label", _WIDE)
