"""What a TorchScript file may do, looked at before any of it runs.

TorchScript knows operators that read and write files, and no walls around them. So the names of all operators in a file
are held against a list of those that compute tensors from tensors, twice: in the text of its code before it is loaded,
since loading runs ``__setstate__``, and in the graphs that became of it before they run. Torch finds the parts of an
archive by other rules than Python (``CODE/x.PY`` is ``code/x.py``, the table of contents may be another one), so it is
given an archive made again of the parts that were looked at, and of no others. Its tensors are compared with the bytes
that are there, which torch does not do. That is worth as much as the list and torch's own reader: it is no sandbox.
"""

from __future__ import annotations

import ast
import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scoresde.files import arrays, pickles, regular

LONGEST = 2**24  # bytes of code
DEEPEST = 1000  # levels of expressions and blocks, each of which torch takes apart on the same stack
PARTS = re.compile(r"(\.data/)?version|byteorder|data\.pkl|constants\.pkl|(data|constants)/[^/]+|code/.+\.py")
ITEM_SIZES = {name: np.dtype(kind).itemsize for name, (kind, _) in pickles.STORAGES.items()}
ITEM_SIZES |= {"ComplexFloatStorage": 8, "ComplexDoubleStorage": 16}
MOST_TURNS = 10_000  # of a loop that says how many it has

_ATEN = """
Bool Complex Float FloatImplicit Int IntImplicit ScalarImplicit __and__ __contains__ __derive_index __getitem__
__iand__ __ior__ __is__ __isnot__ __ixor__ __lshift__ __not__ __or__ __range_length __round_to_zero_floordiv
__rshift__ __xor__ _convolution _convolution_mode _log_softmax _native_multi_head_attention _nested_tensor_from_mask
_nested_tensor_from_mask_left_aligned _set_item _shape_as_tensor _softmax _transformer_encoder_layer_fwd _unique2
_unwrap_optional abs absolute acos adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
adaptive_max_pool2d adaptive_max_pool3d add addbmm addcdiv addcmul addmm addmv affine_grid_generator alias all
alpha_dropout amax amin aminmax any append arange argmax argmin argsort as_tensor asin atan atan2 avg_pool1d
avg_pool2d avg_pool3d baddbmm batch_norm bilinear bitwise_and bitwise_not bitwise_or bitwise_xor bmm broadcast_tensors
broadcast_to bucketize cat cdist ceil celu channel_shuffle chunk clamp clamp_max clamp_min clear clone col2im
column_stack complex concat concatenate conj constant_pad_nd contiguous conv1d conv2d conv3d conv_transpose1d
conv_transpose2d conv_transpose3d copy copysign cos cosh cosine_similarity count_nonzero cross cummax cummin cumprod
cumsum degrees detach device diag diag_embed diagonal diff dim dist div divide divmod dot dropout einsum elu embedding
embedding_bag empty empty_like endswith eq equal erf erfc erfinv exp exp2 expand expand_as expm1 extend eye fabs
feature_alpha_dropout feature_dropout fft_fft fft_fft2 fft_fftn fft_fftshift fft_ifft fft_ifft2 fft_ifftshift
fft_irfft fft_irfft2 fft_rfft fft_rfft2 fill flatten flip fliplr flipud floor floor_divide floordiv fmod format frac
frobenius_norm full full_like gather ge gelu get get_device glu grid_sampler grid_sampler_2d grid_sampler_3d
group_norm gru gt hardshrink hardsigmoid hardswish hardtanh heaviside hstack hypot im2col imag index index_add
index_copy index_fill index_put index_select insert instance_norm inverse is_autocast_cpu_enabled is_autocast_enabled
is_complex is_contiguous is_floating_point is_grad_enabled is_inference is_nonzero isclose isfinite isinf isnan item
items join keys kthvalue l1_loss layer_norm le leaky_relu len lerp less lgamma linalg_inv linalg_matrix_norm
linalg_norm linalg_vector_norm linear linspace list log log10 log1p log2 log_sigmoid log_softmax logaddexp logical_and
logical_not logical_or logical_xor logit logsumexp lower lstm lt masked_fill masked_scatter masked_select matmul max
max_pool1d max_pool2d max_pool3d maximum mean median meshgrid min minimum mish mm movedim mse_loss mul multiply mv
nan_to_num narrow native_batch_norm native_group_norm native_layer_norm ne neg negative new_empty new_full new_ones
new_zeros nonzero norm numel numpy_T one_hot ones ones_like ord outer pad pairwise_distance percentFormat permute
pixel_shuffle pixel_unshuffle pop pow prelu prod quantile radians real reciprocal reflection_pad1d reflection_pad2d
reflection_pad3d relu relu6 remainder renorm repeat repeat_interleave replace replication_pad1d replication_pad2d
replication_pad3d reshape reshape_as resolve_conj resolve_neg reverse rfind rms_norm rnn_relu rnn_tanh roll rot90
round rrelu rsqrt rsub scalar_tensor scaled_dot_product_attention scatter scatter_add searchsorted select
select_scatter selu sgn sigmoid sign silu sin sinc sinh size slice slice_scatter softmax softplus softshrink sort
split split_with_sizes splitlines sqrt square squeeze stack startswith std std_mean str stride strip sub subtract sum
swapaxes swapdims t take take_along_dim tan tanh tensor tensor_split tensordot threshold tile to to_padded_tensor topk
trace transpose tril triu true_divide trunc type_as unbind unflatten unfold unique_consecutive unique_dim unsqueeze
update upper values var var_mean vdot view view_as vstack warn where zero zeros zeros_like
"""
_PRIM = """
Constant CreateObject DictConstruct EnumName EnumValue GetAttr If ImplicitTensorToNum ListConstruct ListUnpack Loop
NumToTensor RaiseException TupleConstruct TupleIndex TupleSlice TupleUnpack Uninitialized abs data device dtype is_cpu
is_cuda is_nested is_quantized is_sparse isinstance itemsize layout max min ndim rangelist requires_grad shape type
unchecked_cast unchecked_unwrap_optional unwrap_optional
"""
ALLOWED = {f"aten::{name}" for name in _ATEN.split()} | {f"prim::{name}" for name in _PRIM.split()}
RESIZING = ("aten::upsample_", "aten::_upsample_")
# What loading runs, or what runs beside the methods.
UNSEEN = ("__getstate__", "__setstate__", "__forward_hooks__", "__forward_pre_hooks__")


def load(path: Path, device: str | torch.device, trust: bool) -> torch.jit.ScriptModule:
    """The network in a TorchScript file, if all its operators are on the list, or ``trust`` is given.

    Raises:
        ValueError: it is no such file, or an operator in it is not on the list (named).
    """
    name = repr(str(path))
    archive = source(path, trust)
    try:
        network = torch.jit.load(archive, map_location=device).eval()
    except Exception as error:  # of a damaged archive anything may come
        raise ValueError(f"{name} is no TorchScript file: {' '.join(str(error).split())[:300]}") from error
    if not trust:
        for operator in _operators(network):
            if not _allowed(operator):
                raise _refused(name, operator)
    return network


def source(path: Path, trust: bool) -> str | io.BytesIO:
    """What ``torch.jit.load`` is given for a file: an archive of what was looked at in it, and with ``trust`` its path.

    Raises:
        ValueError: it is no archive of TorchScript, or holds what is not on the list.
    """
    if trust:
        return str(path)
    name = repr(str(path))
    parts = _parts(path, name)
    _check_code(name, {part: content for part, content in parts.items() if part.startswith("code/")})
    for kind in ("data", "constants"):
        if f"{kind}.pkl" not in parts:
            raise ValueError(f"{name} is no TorchScript file: it lacks {kind}.pkl")
        _check_values(name, kind, parts)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for part, content in parts.items():
            archive.writestr(f"network/{part}", content)
    made.seek(0)
    return made


def _parts(path: Path, name: str) -> dict[str, bytes]:
    """The parts of an archive that torch needs, by their names below its folder."""
    try:
        with zipfile.ZipFile(regular(path)) as archive:
            entries = {
                part: entry
                for entry in arrays.entries(archive, name, path.stat().st_size)
                if PARTS.fullmatch(part := entry.filename.partition("/")[2])
            }
            if sum(entry.file_size for part, entry in entries.items() if part.startswith("code/")) > LONGEST:
                raise ValueError(f"{name} has more than {LONGEST:,} bytes of code")
            found = {}
            for part, entry in entries.items():
                with arrays.opened(archive, entry) as file:
                    found[part] = arrays.rest(file)
            return found
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise ValueError(f"{name} is no TorchScript file: {error or type(error).__name__}") from error


def _refused(name: str, what: str) -> ValueError:
    return ValueError(
        f"{name} holds {what}, which is not on the list of what features are computed by: such a file can do anything "
        "that you can, and is run with features.trust=true alone"
    )


def _allowed(operator: str) -> bool:
    """Whether it is on the list; a name that ends in ``_`` is the same operator in place."""
    return operator in ALLOWED or operator.rstrip("_") in ALLOWED or operator.startswith(RESIZING)


def _check_code(name: str, code: Mapping[str, bytes]) -> None:
    """Look at the code of an archive, none of which has run yet.

    Raises:
        ValueError: it holds what is not on the list.
    """
    for content in code.values():
        # As bytes, since torch does not take code apart as Python does.
        if found := next((word for word in UNSEEN if word.encode() in content), None):
            raise _refused(name, found)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd spellings
            trees = [ast.parse(content.decode()) for content in code.values()]
        for tree in trees:
            _check_depth(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refused(name, f"code that is not understood ({error})") from error
    defined = {found for tree in trees for found in _defined(tree)}
    for tree in trees:
        for operator in _named(tree, defined):
            if not _allowed(operator):
                raise _refused(name, operator)


def _check_depth(tree: ast.AST) -> None:
    """Raise RecursionError for code in whose depth torch's own reader would end the process."""
    level: list[ast.AST] = [tree]
    for _ in range(DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        for node in level:
            # To torch each of these is one within the other.
            width = len(node.values) if isinstance(node, ast.BoolOp) else 0
            width = len(node.ops) if isinstance(node, ast.Compare) else width
            if width > DEEPEST:
                raise RecursionError(f"more than {DEEPEST:,} conditions in one")
        if not level:
            return
    raise RecursionError(f"more than {DEEPEST:,} levels deep")


def _check_values(name: str, kind: str, parts: Mapping[str, bytes]) -> None:
    """Look at the values in an archive: plain ones, objects of its own classes, and tensors within their bytes.

    Raises:
        ValueError: there are others.
    """

    def made(reader: pickles.Interpreter, call: pickles.Call) -> None:
        reader.value(call.arguments)
        reader.value(call.state)

    def other(what: pickles.Name) -> pickles.Meaning:
        outer, *inner = what.module.split(".")
        known = (what.module, what.name) in (
            ("collections", "OrderedDict"),
            ("builtins", "complex"),
            ("torch", "device"),
        )
        own = outer == "__torch__" and inner[:2] != ["torch", "classes"]
        if known or own or what.module == "torch.jit._pickle":
            return made
        raise _refused(name, f"an object of {what}")

    def tensor(_: pickles.Interpreter, call: pickles.Call) -> None:
        _check_tensor(call.arguments, sizes)

    content = parts[f"{kind}.pkl"]
    sizes = {part.removeprefix(f"{kind}/"): len(held) for part, held in parts.items() if part.startswith(f"{kind}/")}
    reader = pickles.Interpreter({("torch._utils", "_rebuild_tensor_v2"): tensor}, other, len(content))
    try:
        reader.value(reader.parse(io.BytesIO(content), len(content)))
    except pickles.PickleError as error:
        raise ValueError(f"{name} is no TorchScript file: its {kind}.pkl {error}") from error
    except ValueError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to ask for
        raise ValueError(f"{name} is no TorchScript file: its {kind}.pkl is damaged") from error


def _check_tensor(arguments: tuple[Any, ...], sizes: Mapping[str, int]) -> None:
    """Raise PickleError for a tensor that does not lie within the bytes of its part of the archive."""
    storage, offset, shape, steps = [*arguments, *4 * [None]][:4]
    id: Any = storage.id if type(storage) is pickles.Reference else None
    if (
        type(id) is not tuple
        or len(id) != 5
        or type(id[1]) is not pickles.Name
        or not type(shape) is type(steps) is tuple
    ):
        raise pickles.PickleError("holds a tensor without its storage")
    _, what, key, _, count = id
    if what.module != "torch" or what.name not in ITEM_SIZES or type(key) is not str:
        raise pickles.PickleError(f"holds a tensor of {what}, which is no storage of numbers")
    numbers = (offset, count, *shape, *steps)
    if len(shape) != len(steps) or any(type(number) is not int or not 0 <= number < 2**48 for number in numbers):
        raise pickles.PickleError("holds a tensor whose shape is none")
    last = -1 if 0 in shape else offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    held = sizes.get(key, 0)
    if count * ITEM_SIZES[what.name] > held or last >= count:
        raise pickles.PickleError(f"holds a tensor that ends at value {last + 1:,} of {count:,}, in {held:,} bytes")


def _defined(tree: ast.AST) -> Iterator[str]:
    """Names of functions, methods and attributes that the code itself has."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            for entry in node.body:
                if isinstance(entry, ast.AnnAssign):
                    yield from (part.id for part in ast.walk(entry.target) if isinstance(part, ast.Name))
                elif isinstance(entry, ast.Assign):
                    yield from (
                        part.id for target in entry.targets for part in ast.walk(target) if isinstance(part, ast.Name)
                    )


def _named(tree: ast.AST, defined: set[str]) -> Iterator[str]:
    """Every operator that the code may mean: ``torch.x``, ``ops.space.x``, ``value.x`` where it has no such name."""
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "print":
            yield "prim::Print"
        if not isinstance(node, ast.Attribute):
            continue
        path = _path(node)
        if path is not None and path[0] == "torch":
            yield f"aten::{path[1]}"
        elif path is not None and path[0] == "ops":
            yield (
                f"{path[1]}::{path[2]}"
                if len(path) > 2
                else f"ops.{path[1]}"
                if id(node) not in inner
                else "prim::Constant"
            )
        elif (path is None or path[0] not in ("__torch__", "CONSTANTS")) and node.attr not in defined:
            yield f"prim::{node.attr}" if f"prim::{node.attr}" in ALLOWED else f"aten::{node.attr}"


def _path(node: ast.Attribute) -> list[str] | None:
    """``a.b.c`` as its names; None where it begins with something else than a name."""
    names: list[str] = []
    value: ast.expr = node
    while isinstance(value, ast.Attribute):
        names.append(value.attr)
        value = value.value
    return [value.id, *reversed(names)] if isinstance(value, ast.Name) else None


def _operators(network: torch.jit.ScriptModule) -> Iterator[str]:
    """Kinds of all nodes in the graphs of all methods of all modules, with what they call written out."""
    for _, module in network.named_modules():
        inner: Any = module._c
        for method in inner._method_names():
            yield from _kinds(inner._get_method(method).inlined_graph)


def _endless(loop: Any) -> bool:
    """Whether a loop says that it has more turns than features need; ``while`` says that it has no end."""
    turns = next(loop.inputs()).node()
    return turns.kind() == "prim::Constant" and turns.output().toIValue() > MOST_TURNS


def _kinds(block: Any) -> Iterator[str]:
    for node in block.nodes():
        yield node.kind()
        if node.kind() == "prim::Loop" and _endless(node):
            yield f"a loop of over {MOST_TURNS:,} turns"
        for part in node.blocks():
            yield from _kinds(part)
