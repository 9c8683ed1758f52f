"""What a TorchScript file may do, looked at before any of it runs.

TorchScript knows operators that read and write files, and no walls around them. So the names of all operators in a file
are held against a list of those that compute tensors from tensors, twice: in the text of its code before it is loaded,
since loading runs ``__setstate__``, and in the graphs that became of it before they run. That is worth as much as the
list and torch's own reader of such files: it is no sandbox.
"""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from scoresde.files import check_unpacked, regular

LONGEST = 2**24  # bytes of code
MOST_TURNS = 10_000  # of a loop that says how many it has

_ATEN = """
Bool Complex Float FloatImplicit Int IntImplicit ScalarImplicit __and__ __contains__ __derive_index __getitem__
__iand__ __ior__ __is__ __isnot__ __ixor__ __lshift__ __not__ __or__ __range_length __round_to_zero_floordiv
__rshift__ __xor__ _convolution _log_softmax _native_multi_head_attention _nested_tensor_from_mask
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
UNSEEN = {"__setstate__", "__getstate__", "__forward_hooks__", "__forward_pre_hooks__"}


def load(path: Path, device: str | torch.device, trust: bool) -> torch.jit.ScriptModule:
    """The network in a TorchScript file, if all its operators are on the list, or ``trust`` is given.

    Raises:
        ValueError: it is no such file, or an operator in it is not on the list (named).
    """
    name = repr(str(path))
    if not trust:
        _check_archive(path, name)
    try:
        network = torch.jit.load(str(path), map_location=device).eval()
    except Exception as error:  # of a damaged archive anything may come
        raise ValueError(f"{name} is no TorchScript file: {' '.join(str(error).split())[:300]}") from error
    if not trust:
        for operator in _operators(network):
            if not _allowed(operator):
                raise _refused(name, operator)
    return network


def _refused(name: str, what: str) -> ValueError:
    return ValueError(
        f"{name} holds {what}, which is not on the list of what features are computed by: such a file can do anything "
        "that you can, and is run with features.trust=true alone"
    )


def _allowed(operator: str) -> bool:
    """Whether it is on the list; a name that ends in ``_`` is the same operator in place."""
    return operator in ALLOWED or operator.rstrip("_") in ALLOWED or operator.startswith(RESIZING)


def _check_archive(path: Path, name: str) -> None:
    """Look at the code in an archive, none of which has run yet.

    Raises:
        ValueError: it is no archive of TorchScript, or holds what is not on the list.
    """
    try:
        with zipfile.ZipFile(regular(path)) as archive:
            members = archive.infolist()
            check_unpacked(name, path.stat().st_size, sum(member.file_size for member in members))
            codes = [member for member in members if "/code/" in member.filename and member.filename.endswith(".py")]
            if sum(member.file_size for member in codes) > LONGEST:
                raise ValueError(f"{name} has more than {LONGEST:,} bytes of code")
            sources = [archive.read(member).decode() for member in codes]
            pickles = b"".join(
                archive.read(member) for member in members if member.filename.endswith(("data.pkl", "constants.pkl"))
            )
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{name} is no TorchScript file: {error or type(error).__name__}") from error
    if b"torch.classes" in pickles:
        raise _refused(name, "an object of a class that torch or a plugin defines")
    try:
        trees = [ast.parse(source) for source in sources]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refused(name, f"code that is not understood ({error})") from error
    defined = {found for tree in trees for found in _defined(tree)}
    if found := sorted(defined & UNSEEN):
        raise _refused(name, found[0])
    for tree in trees:
        for operator in _named(tree, defined):
            if not _allowed(operator):
                raise _refused(name, operator)


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
