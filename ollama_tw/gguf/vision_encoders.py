"""Checks of the tensors of vision encoders against the numbers that their projector declares.

Checked are the blocks of all projectors with the usual vision transformer, and the tensors behind them of
the most common ones.

Source: llama.cpp: tools/mtmd/clip.cpp, build_vit; tools/mtmd/models/, one file for each projector.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from ollama_tw.gguf.checks import check_shape, sides
from ollama_tw.gguf.reader import GGUFError, Header, Tensor

CHANNELS = 3


class EncoderKeys:
    """The metadata of the encoder ``name`` (``vision`` or ``audio``) of a projector."""

    def __init__(self, header: Header, name: str) -> None:
        self._header = header
        self._name = name
        declared = header.metadata.get("clip.projector_type") or self.value("projector_type")
        # Old files declare no type; creation adds this one.
        self.type = declared if isinstance(declared, str) else "mlp"

    def value(self, key: str) -> object:
        """Return the value of the encoder's ``key``, None if it is absent."""
        return self._header.metadata.get(f"clip.{self._name}.{key}")

    def integer(self, key: str) -> int:
        """Return the integer of the encoder's ``key``, 0 if it is absent."""
        value = self.value(key)
        return value if isinstance(value, int) else 0


class _Presence(Enum):
    """Return whether the file has a tensor."""

    NEVER = 0
    MAY = 1
    MUST = 2


@dataclass(frozen=True)
class _Layout:
    """Requirements of a projector type for the tensors.

    ``matrices`` are applied one after another behind the encoder, ``merge`` patches on each side at once:
    a number, or the key that has it with its default. ``transposed`` is a matrix with exchanged sides,
    ``merger`` an optional one that merges the patches, without which they stay single.
    """

    matrices: tuple[str, ...] = ()
    merge: int | tuple[str, int] = 1
    biased: bool = False
    norms: tuple[str, ...] = ()
    merged_norm: str = ""
    merger: str = ""
    transposed: str = ""
    separate_attention: bool = False
    attention_bias: bool = False
    rotates: bool = False
    class_token: _Presence = _Presence.NEVER
    position_a_patch: bool = False
    second_patch: _Presence = _Presence.NEVER


_LLAVA = _Layout(separate_attention=True, class_token=_Presence.MAY, position_a_patch=True)
_QWEN = _Layout(
    ("mm.0", "mm.2"), merge=2, biased=True, separate_attention=True, attention_bias=True, rotates=True,
    second_patch=_Presence.MUST,
)  # fmt: skip
_USUAL = _Layout(class_token=_Presence.MAY)

_LAYOUTS: Mapping[str, _Layout] = {
    "mlp": _Layout(
        ("mm.0", "mm.2?"),
        biased=True,
        separate_attention=True,
        class_token=_Presence.MAY,
        position_a_patch=True,
    ),
    "mlp_norm": _Layout(
        ("mm.0", "mm.3"),
        biased=True,
        separate_attention=True,
        class_token=_Presence.MAY,
        position_a_patch=True,
    ),
    "ldp": _LLAVA,
    "ldpv2": _LLAVA,
    "resampler": _Layout(separate_attention=True),
    "adapter": _LLAVA,
    "qwen2vl_merger": _QWEN,
    "qwen2.5vl_merger": _QWEN,
    "gemma3": _Layout(
        merge=("projector.scale_factor", 4),
        norms=("mm.soft_emb_norm",),
        transposed="mm.input_projection",
        position_a_patch=True,
    ),
    "idefics3": _Layout(("mm.model.fc",), merge=("projector.scale_factor", 1), position_a_patch=True),
    "internvl": _Layout(
        ("mm.model.mlp.1", "mm.model.mlp.3"),
        merge=("projector.scale_factor", 1),
        merged_norm="mm.model.mlp.0",
        class_token=_Presence.MUST,
        position_a_patch=True,
    ),
    "pixtral": _Layout(
        ("mm.1", "mm.2"),
        merge=("spatial_merge_size", 1),
        merger="mm.patch_merger",
        norms=("mm.input_norm",),
        rotates=True,
    ),
    **dict.fromkeys(
        ("qwen3vl_merger", "lfm2", "kimivl", "phi4", "llama4", "janus_pro", "lightonocr"), _USUAL
    ),
}


def check_vision_encoder(header: Header, keys: EncoderKeys) -> None:
    """Raise GGUFError if tensors of a known type of projector do not fit its metadata."""
    layout = _LAYOUTS.get(keys.type)
    if layout is not None:
        tensors = {tensor.name: tensor for tensor in header.tensors}
        if keys.type == "mlp" and "mm.3.weight" in tensors:
            layout = _LAYOUTS["mlp_norm"]
        _Encoder(tensors, keys, layout).check()


class _Encoder:
    """The encoder of images of a projector with a known layout."""

    def __init__(self, tensors: Mapping[str, Tensor], keys: EncoderKeys, layout: _Layout) -> None:
        self._tensors = tensors
        self._keys = keys
        self._layout = layout
        self._width = keys.integer("embedding_length")
        self._heads = keys.integer("attention.head_count")
        self._patch = keys.integer("patch_size")
        self._side = keys.integer("image_size") // self._patch
        """Patches on a side of an image of the declared size, 0 if there is none."""
        match layout.merge:
            case (key, default):
                self._merge = keys.integer(key) if keys.value(key) is not None else default
            case number:
                self._merge = number

    def check(self) -> None:
        """Raise GGUFError if a tensor is missing or has another shape than the metadata demands."""
        layers = self._keys.integer("block_count")
        if not self._heads or not layers:
            raise GGUFError(f"the projector declares {layers} layers of {self._heads} heads")
        head = self._keys.integer("attention.head_dim") or self._width // self._heads
        if head * self._heads != self._width:
            raise GGUFError(f"the projector declares {self._heads} heads for an embedding of {self._width}")
        if self._layout.rotates and head % 4:
            raise GGUFError(f"the projector declares heads of {head} elements, not of a multiple of 4")
        if self._keys.integer("attention.head_count_kv") not in (0, self._heads):
            raise GGUFError("the projector declares other numbers of heads for keys than for queries")
        if not 1 <= self._merge <= max(self._side, 64) or (self._side and self._side % self._merge):
            raise GGUFError(f"the projector merges {self._merge} of {self._side} patches on each side")
        self._check_windows()
        self._check_patches()
        self._check_positions()
        for layer in range(layers):
            self._check_block(f"v.blk.{layer}.", head)
        self._check_biases("mm.")
        self._check_projection()

    def _require(self, name: str) -> Tensor:
        tensor = self._tensors.get(name)
        if tensor is None:
            raise GGUFError(f'the projector lacks the tensor "{name}"')
        return tensor

    def _forbid(self, name: str) -> None:
        if name in self._tensors:
            raise GGUFError(f'the projector of type "{self._keys.type}" has the tensor "{name}"')

    def _check_windows(self) -> None:
        pattern, window = self._keys.integer("n_wa_pattern"), self._keys.integer("window_size")
        if pattern and self._layout is _QWEN and (pattern == 1 or not 2 * self._patch <= window <= 4096):
            raise GGUFError(
                f"the projector declares windows of {window} pixels for all but each layer number {pattern}"
            )

    def _check_patches(self) -> None:
        patch = self._require("v.patch_embd.weight")
        check_shape(patch, self._patch, self._patch, CHANNELS, self._width)
        match self._layout.second_patch:
            case _Presence.NEVER:
                self._forbid("v.patch_embd.weight.1")
            case _Presence.MUST:
                second = self._require("v.patch_embd.weight.1")
                check_shape(second, *patch.shape)
                self._forbid("v.patch_embd.bias")
        for name in ("patch_embd.bias", "pre_ln.weight", "pre_ln.bias", "post_ln.weight", "post_ln.bias"):
            if tensor := self._tensors.get(f"v.{name}"):
                check_shape(tensor, self._width)

    def _check_positions(self) -> None:
        class_token = self._tensors.get("v.class_embd")
        if self._layout.class_token is _Presence.NEVER:
            self._forbid("v.class_embd")
        elif self._layout.class_token is _Presence.MUST:
            self._require("v.class_embd")
        if class_token is not None:
            check_shape(class_token, self._width)
            if class_token.type.name != "F32":
                raise GGUFError(f'tensor "v.class_embd" has the type {class_token.type.name} instead of F32')
        positions = self._tensors.get("v.position_embd.weight")
        if positions is None:
            if self._layout.position_a_patch:
                self._require("v.position_embd.weight")
            return
        if self._layout.position_a_patch:
            rows = positions.shape[1] if len(positions.shape) > 1 else 1
            check_shape(positions, self._width, rows)
            if rows != self._side * self._side + (class_token is not None):
                raise GGUFError(
                    f"the projector has {rows} positions for images of {self._side} x {self._side} patches"
                )

    def _check_block(self, block: str, head: int) -> None:
        width, get = self._width, self._tensors.get
        merged = None if self._layout.separate_attention else get(f"{block}attn_qkv.weight")
        if merged is not None:
            check_shape(merged, width, 3 * width)
        for name in "qkv":
            if merged is None:
                check_shape(self._require(f"{block}attn_{name}.weight"), width, width)
            if self._layout.attention_bias:
                self._require(f"{block}attn_{name}.bias")
        check_shape(self._require(f"{block}attn_out.weight"), width, width)
        self._check_feed_forward(block)
        for name in ("ln1.weight", "ln1.bias", "ln2.weight", "ln2.bias", "ls1.weight", "ls2.weight"):
            if tensor := get(f"{block}{name}"):
                check_shape(tensor, width)
        for name in ("attn_q_norm", "attn_k_norm"):
            if tensor := get(f"{block}{name}.weight"):
                check_shape(tensor, head if merged is not None or tensor.elements == head else width)
        self._check_biases(block)

    def _check_feed_forward(self, block: str) -> None:
        """Check the matrices, whose names older files exchange."""
        up, down = self._require(f"{block}ffn_up.weight"), self._require(f"{block}ffn_down.weight")
        first, second = (down, up) if down.shape[0] == self._width else (up, down)
        inner = first.shape[1] if len(first.shape) > 1 else 1
        check_shape(first, self._width, inner)
        check_shape(second, inner, self._width)
        gate = self._tensors.get(f"{block}ffn_gate.weight")
        if gate is not None:
            check_shape(gate, self._width, inner)

    def _check_biases(self, prefix: str) -> None:
        for weight, bias in self._biased(prefix):
            check_shape(bias, weight.shape[1] if len(sides(weight)) > 1 else weight.elements)

    def _biased(self, prefix: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the matrices and norms below ``prefix`` that have a bias, with it."""
        for name, bias in self._tensors.items():
            if name.startswith(prefix) and name.endswith(".bias"):
                weight = self._tensors.get(f"{name.removesuffix('bias')}weight")
                if weight is None:
                    raise GGUFError(f'the projector has the tensor "{name}" without its weight')
                if len(weight.shape) <= 2:
                    yield weight, bias

    def _check_projection(self) -> None:
        """Check the tensors behind the encoder."""
        width = self._width * self._merge**2
        if norm := self._layout.merged_norm:
            check_shape(self._require(f"{norm}.weight"), width)
            self._require(f"{norm}.bias")
        if name := self._layout.merger:
            merger = self._tensors.get(f"{name}.weight")
            if merger is None:
                if self._merge != 1:
                    self._require(f"{name}.weight")
                return self._check_matrices(self._width)
            rows = merger.shape[1] if len(merger.shape) > 1 else 1
            check_shape(merger, width, rows)
            width = rows
        for name in self._layout.norms:
            check_shape(self._require(f"{name}.weight"), self._width)
        if name := self._layout.transposed:
            tensor = self._require(f"{name}.weight")
            check_shape(tensor, tensor.shape[0], self._width)
            if tensor.type.name not in ("F32", "F16"):
                raise GGUFError(
                    f'tensor "{tensor.name}" has the type {tensor.type.name} instead of F32 or F16'
                )
        return self._check_matrices(width)

    def _check_matrices(self, width: int) -> None:
        for name in self._layout.matrices:
            optional, name = name.endswith("?"), name.removesuffix("?")
            if optional and f"{name}.weight" not in self._tensors:
                return
            tensor = self._require(f"{name}.weight")
            rows = tensor.shape[1] if len(tensor.shape) > 1 else 1
            check_shape(tensor, width, rows)
            if self._layout.biased:
                self._require(f"{name}.bias")
            width = rows
        if self._keys.integer("n_wa_pattern") and width != self._keys.integer("projection_dim"):
            raise GGUFError(f"the projector declares another size than {width} for its results")
        if self._layout is _LAYOUTS["mlp_norm"]:
            for norm, before in (("mm.1", "mm.0"), ("mm.4", "mm.3")):
                check_shape(self._require(f"{norm}.weight"), self._tensors[f"{before}.weight"].shape[1])
                self._require(f"{norm}.bias")
