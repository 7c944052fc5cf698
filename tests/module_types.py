"""Small models of every type that users bring, with data that each takes: they work, or are refused before a run."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from basinet.sim.models.adapters import added_parameters, attach
from basinet.sim.models.adapters.lora import LoRA
from basinet.sim.models.freezing import choose_trained

CLASSES, SAMPLES, WIDTH, WORDS, LENGTH = 3, 24, 4, 7, 3


class Pooled(nn.Module):
    """A recurrent layer over [n, LENGTH, WIDTH], and a head on its last output."""

    def __init__(self, layer: Callable[..., nn.Module], hidden: int = 2, outputs: int = 2) -> None:
        super().__init__()
        self.layer = layer(WIDTH, hidden, batch_first=True)
        self.head = nn.Linear(outputs, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 4, dropout=0.0, batch_first=True, activation="gelu")
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x).mean(1))


class Tied(nn.Module):
    """One weight matrix, used by two layers under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).tanh()).tanh())


class Shared(nn.Module):
    """One submodule under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.again = self.first
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.again(self.first(x).tanh()).tanh())


class Scaled(nn.Module):
    """A parameter without dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, CLASSES)
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale.sin() * self.head(x)


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head, self.idle = nn.Linear(WIDTH, CLASSES), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class Buffered(nn.Module):
    """Buffers of two types, one of which every training step changes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, CLASSES)
        self.register_buffer("shift", torch.full((WIDTH,), 0.5))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return self.head((x - self.shift).tanh())


class InPlace(nn.Module):
    """Writes into its input."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mul_(0.5))


class Wrapped(nn.Module):
    """Returns its outputs in something: a tuple, a mapping, an object."""

    def __init__(self, wrap: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.head, self.wrap = nn.Linear(WIDTH, CLASSES), wrap

    def forward(self, x: Tensor) -> object:
        return self.wrap(self.head(x))


class OnceDifferentiable(torch.autograd.Function):
    """The square, whose backward pass hides from autograd how it depends on x: its double backward is wrong."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 2 * x.detach() * gradient


class Opaque(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(OnceDifferentiable.apply(self.first(x)))


class Normed(nn.Module):
    """Divides by a norm that is zero where it starts: its gradient is not finite there."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(WIDTH, 2), nn.Linear(2, CLASSES)
        nn.init.zeros_(self.first.weight)
        nn.init.zeros_(self.first.bias)

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x)
        return self.head(z + z.norm(dim=-1, keepdim=True))


class Branching(nn.Module):
    """Control flow that depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.tanh() if x.sum() > 0 else x.sin())


class Held(nn.Module):
    """Parameters in lists and mappings."""

    def __init__(self) -> None:
        super().__init__()
        self.listed = nn.ParameterList([torch.linspace(-1, 1, WIDTH * 2).view(WIDTH, 2)])
        self.named = nn.ParameterDict({"head": torch.linspace(-1, 1, 2 * CLASSES).view(2, CLASSES)})

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.listed[0]).tanh() @ self.named["head"]


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, CLASSES, dtype=torch.complex64)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.to(self.head.weight.dtype)).abs()


class Uncopied(nn.Module):
    """Cannot be deep-copied."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, CLASSES)

    def __deepcopy__(self, memo: dict[int, object]) -> "Uncopied":
        raise TypeError("this model holds an open connection")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, 3), nn.Tanh(), nn.Linear(3, CLASSES))


class Recording(nn.Module):
    """Leaves what it has computed in attributes, and does not read it."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.size = nn.Linear(WIDTH, CLASSES), 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.size:
            self.size = len(x)
        self.last = self.head(x)
        return self.last


class Remembering(nn.Module):
    """Reads what an earlier pass has left in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.last = nn.Linear(WIDTH, CLASSES), torch.zeros(CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.head(x) + self.last.to(x)
        self.last = outputs.detach().mean(0)
        return outputs


class Written(nn.Module):
    """Writes its parameters as it computes: in place, or by others in their place."""

    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        self.head, self.in_place = nn.Linear(WIDTH, CLASSES), in_place

    def forward(self, x: Tensor) -> Tensor:
        if self.in_place:
            self.head.weight.data.clamp_(-0.2, 0.2)
        else:
            self.head.weight.data = self.head.weight.data.clamp(-0.2, 0.2)
        return self.head(x)


class SharedBuffer(nn.Module):
    """Two layers with one buffer, which one of them writes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, CLASSES)
        self.head.register_buffer("shift", self.first.running_mean)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x) + self.head.shift)


class Growing(nn.Module):
    """Its buffer is larger after each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, CLASSES)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.seen = torch.cat([self.seen, self.seen[:1]])
        return self.head(x)


class Raising(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head, self.settings = nn.Sequential(nn.Linear(WIDTH, CLASSES)), {}

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x) * self.settings["scale"]


class Applied(nn.Module):
    """A head, and any function of its outputs."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.head, self.function = nn.Linear(WIDTH, CLASSES), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.head(x))


def hooked() -> nn.Module:
    """Hooks of layers that change what the layers compute, and the gradients that go through them."""
    model = mlp()
    model[0].register_forward_pre_hook(lambda layer, inputs: (inputs[0] * 1.5,))
    model[0].register_forward_hook(lambda layer, inputs, outputs: outputs + layer.bias)
    return model


def hooked_backward() -> nn.Module:
    model = mlp()
    model[2].register_full_backward_hook(lambda layer, inner, outer: (inner[0] * 0.5,))
    return model


def holding() -> nn.Module:
    """A hook that holds on to the very module on which it was registered."""
    model = Scaled()
    model.head.register_forward_hook(lambda layer, inputs, outputs: outputs * model.scale)
    return model


def parameter_hook() -> nn.Module:
    model = mlp()
    model[0].weight.register_hook(lambda gradient: 2 * gradient)
    return model


def complex_buffer() -> nn.Module:
    model = mlp()
    model[1].register_buffer("turns", torch.ones(3, dtype=torch.complex64))
    return model


def hooked_norm(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """A norm of weights in torch's older way: by a hook that puts a tensor in the parameter's place."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(norm(nn.Linear(WIDTH, CLASSES)))


def images(channels: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, channels, 2), nn.GELU(), nn.Flatten(), nn.Linear(9 * channels, CLASSES))


ONE = mlp()


class Decoder(nn.Module):
    """One matrix embeds the words and reads the outputs, which come in a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(WORDS, 3), nn.Linear(3, WORDS, bias=False)
        self.layer = nn.TransformerEncoderLayer(3, 1, 2, dropout=0.0, batch_first=True, activation="gelu")
        self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.layer(self.words(x))
        return {"hidden": hidden, "logits": self.head(hidden.mean(1))}


class Bag(nn.Module):
    def __init__(self, **settings: object) -> None:
        super().__init__()
        self.words, self.head = nn.EmbeddingBag(WORDS, 2, **settings), nn.Linear(2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words(x))


def words(**settings: object) -> nn.Module:
    return nn.Sequential(nn.Embedding(WORDS, 2, **settings), nn.Flatten(), nn.Linear(2 * LENGTH, CLASSES))


def frozen() -> nn.Module:
    model = mlp()
    model[0].requires_grad_(False)
    return model


def adapted() -> nn.Module:
    model = attach(mlp(), LoRA(rank=1))
    return choose_trained(model, (), ("2.bias",), added_parameters(model))


@dataclass(frozen=True)
class ModuleType:
    """A type of model.

    Attributes:
        make: Makes one, under torch's global seed.
        inputs: What it takes: vectors, sequences of vectors, images or words.
    """

    make: Callable[[], nn.Module]
    inputs: str = "vectors"

    def data(self) -> tuple[Tensor, Tensor]:
        """Inputs and classes of SAMPLES samples, the same at each call."""
        generator = torch.Generator().manual_seed(1)
        shape = {"vectors": (WIDTH,), "sequences": (LENGTH, WIDTH), "images": (1, 4, 4)}.get(self.inputs)
        if shape is None:
            x = torch.randint(WORDS, (SAMPLES, LENGTH), generator=generator)
        else:
            x = torch.randn(SAMPLES, *shape, generator=generator)
        return x, torch.randint(CLASSES, (SAMPLES,), generator=generator)


MODULE_TYPES: dict[str, ModuleType] = {
    "linear": ModuleType(lambda: nn.Linear(WIDTH, CLASSES)),
    "mlp": ModuleType(mlp),
    "convolution": ModuleType(images, "images"),
    "channels_last": ModuleType(lambda: images(3).to(memory_format=torch.channels_last), "images"),
    "rnn": ModuleType(lambda: Pooled(nn.RNN), "sequences"),
    "lstm": ModuleType(lambda: Pooled(nn.LSTM), "sequences"),
    "two_way_lstm": ModuleType(lambda: Pooled(lambda *s, **k: nn.LSTM(*s, **k, bidirectional=True), 2, 4), "sequences"),
    "dropout_lstm": ModuleType(
        lambda: Pooled(lambda *s, **k: nn.LSTM(*s, **k, num_layers=2, dropout=0.5)), "sequences"
    ),
    "gru": ModuleType(lambda: Pooled(nn.GRU), "sequences"),
    "attention": ModuleType(Attention, "sequences"),
    "encoder": ModuleType(Encoder, "sequences"),
    "tied": ModuleType(Tied),
    "shared": ModuleType(Shared),
    "scalar": ModuleType(Scaled),
    "frozen": ModuleType(frozen),
    "adapted": ModuleType(adapted),
    "unused": ModuleType(Unused),
    "buffers": ModuleType(Buffered),
    "batch_norm": ModuleType(lambda: nn.Sequential(nn.Linear(WIDTH, 3), nn.BatchNorm1d(3), nn.Linear(3, CLASSES))),
    "graph_module": ModuleType(lambda: torch.fx.symbolic_trace(mlp())),
    "layer_norm": ModuleType(lambda: nn.Sequential(nn.Linear(WIDTH, 3), nn.LayerNorm(3), nn.Linear(3, CLASSES))),
    "group_norm": ModuleType(lambda: nn.Sequential(nn.Linear(WIDTH, 4), nn.GroupNorm(2, 4), nn.Linear(4, CLASSES))),
    "weight_norm": ModuleType(lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(WIDTH, CLASSES)))),
    "orthogonal": ModuleType(lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(WIDTH, CLASSES)))),
    "spectral_norm": ModuleType(lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(WIDTH, CLASSES)))),
    "hooked_weight_norm": ModuleType(lambda: hooked_norm(nn.utils.weight_norm)),
    "hooked_spectral_norm": ModuleType(lambda: hooked_norm(nn.utils.spectral_norm)),
    "hooks": ModuleType(hooked),
    "backward_hook": ModuleType(hooked_backward),
    "holding_hook": ModuleType(holding),
    "parameter_hook": ModuleType(parameter_hook),
    "recording": ModuleType(Recording),
    "remembering": ModuleType(Remembering),
    "written_in_place": ModuleType(lambda: Written(in_place=True)),
    "written_anew": ModuleType(lambda: Written(in_place=False)),
    "shared_buffer": ModuleType(SharedBuffer),
    "growing_buffer": ModuleType(Growing),
    "raising": ModuleType(Raising),
    "one_module": ModuleType(lambda: ONE),
    "root_of_zero": ModuleType(lambda: Applied(lambda z: z + (0 * z).sum(-1, keepdim=True).sqrt())),
    "not_a_number": ModuleType(lambda: Applied(lambda z: z * torch.nan)),
    "detached": ModuleType(lambda: Applied(lambda z: z.detach())),
    "dropout": ModuleType(lambda: nn.Sequential(nn.Linear(WIDTH, 3), nn.Dropout(0.5), nn.Linear(3, CLASSES))),
    "embedding": ModuleType(words, "words"),
    "tied_decoder": ModuleType(Decoder, "words"),
    "padded_embedding": ModuleType(lambda: words(padding_idx=0), "words"),
    "sparse_embedding": ModuleType(lambda: words(sparse=True), "words"),
    "max_norm_embedding": ModuleType(lambda: words(max_norm=0.5), "words"),
    "scaled_embedding": ModuleType(lambda: words(scale_grad_by_freq=True), "words"),
    "embedding_bag": ModuleType(Bag, "words"),
    "max_embedding_bag": ModuleType(lambda: Bag(mode="max"), "words"),
    "sparse_embedding_bag": ModuleType(lambda: Bag(mode="sum", sparse=True), "words"),
    "in_place_activation": ModuleType(
        lambda: nn.Sequential(nn.Linear(WIDTH, 3), nn.ReLU(inplace=True), nn.Linear(3, CLASSES))
    ),
    "writes_input": ModuleType(InPlace),
    "branching": ModuleType(Branching),
    "held": ModuleType(Held),
    "opaque": ModuleType(Opaque),
    "zero_norm": ModuleType(Normed),
    "complex": ModuleType(Complex),
    "complex_buffer": ModuleType(complex_buffer),
    "meta": ModuleType(lambda: nn.Linear(WIDTH, CLASSES, device="meta")),
    "tuple_output": ModuleType(lambda: Wrapped(lambda z: (z, z.detach()))),
    "dict_output": ModuleType(lambda: Wrapped(lambda z: {"logits": z})),
    "object_output": ModuleType(lambda: Wrapped(lambda z: SimpleNamespace(logits=z))),
    "script": ModuleType(lambda: torch.jit.script(mlp())),
    "trace": ModuleType(lambda: torch.jit.trace(mlp(), torch.zeros(2, WIDTH))),
    "lazy": ModuleType(lambda: nn.Sequential(nn.LazyLinear(3), nn.Tanh(), nn.LazyLinear(CLASSES))),
    "lazy_norm": ModuleType(lambda: nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d(), nn.LazyLinear(CLASSES))),
    "uncopied": ModuleType(Uncopied),
    "half": ModuleType(lambda: mlp().half()),
    "mixed": ModuleType(lambda: nn.Sequential(nn.Linear(WIDTH, 3).double(), nn.Tanh(), nn.Linear(3, CLASSES))),
}
