"""The arithmetic of `models.inference.resample` and `Preprocess.normalise` as an ONNX graph.

Pillow keeps 8-bit samples and filters them with coefficients of 22 bits (`Resample.c`: the float64
weights of `precompute_coeffs`, `normalize_coeffs_8bpc`, `clip8`). The graph makes the same
coefficients for whatever size comes in, and multiplies by them as by a matrix. In float64 all these
products and sums are whole numbers below 2^53, so they are exact in any order of summing, and so
are the samples. ONNX's own `Resize` rounds elsewhere.
"""

from collections.abc import Iterable

import onnx
from onnx import inliner, parser

from models.inference.preprocess import Preprocess
from models.inference.resample import CROP, PAD, SQUASH, SUPPORT

# Weights by distance in pixels of the filter, each only where its reach goes, as Pillow has them.
_WEIGHTS = {
    "bilinear": """
        near = Sub (one, distance)
        far = Sub (one, one)
    """,
    "bicubic": """
        a = Constant <value = double {-0.5}> ()
        two = Constant <value = double {2.0}> ()
        three = Constant <value = double {3.0}> ()
        four = Constant <value = double {4.0}> ()
        five = Constant <value = double {5.0}> ()
        eight = Constant <value = double {8.0}> ()
        near_slope = Add (a, two)
        near_offset = Add (a, three)
        near_1 = Mul (near_slope, distance)
        near_2 = Sub (near_1, near_offset)
        near_3 = Mul (near_2, distance)
        near_4 = Mul (near_3, distance)
        near = Add (near_4, one)
        far_1 = Sub (distance, five)
        far_2 = Mul (far_1, distance)
        far_3 = Add (far_2, eight)
        far_4 = Mul (far_3, distance)
        far_5 = Sub (far_4, four)
        far = Mul (far_5, a)
    """,
}

# One axis, of which `unit_length` pixels get `resize`: which pixels are read, and the whole-number
# coefficients, float64 (pixels seen, pixels read).
_AXIS = """
<opset_import: ["" : 20], domain: "topwork">
axis (length, unit_length) => (first, last, coefficients)
{{
    resize = Constant <value = int64 {{{resize}}}> ()
    crop = Constant <value = int64 {{{crop}}}> ()
    no_pixel = Constant <value = int64 {{0}}> ()
    one_pixel = Constant <value = int64 {{1}}> ()
    zero = Constant <value = double {{0.0}}> ()
    half = Constant <value = double {{0.5}}> ()
    one = Constant <value = double {{1.0}}> ()
    support = Constant <value = double {{{support}.0}}> ()
    unit = Constant <value = double {{4194304.0}}> ()
    length_exact = Cast <to = 11> (length)

    grown = Mul (resize, length)
    scaled_down = Div (grown, unit_length)
    scaled = Max (scaled_down, one_pixel)
    seen = Min (scaled, crop)
    scaled_exact = Cast <to = 11> (scaled)
    seen_exact = Cast <to = 11> (seen)
    margin = Sub (scaled_exact, seen_exact)
    half_margin = Mul (margin, half)
    offset = Round (half_margin)
    offset_end = Add (offset, seen_exact)
    start_product = Mul (offset, length_exact)
    end_product = Mul (offset_end, length_exact)
    start = Div (start_product, scaled_exact)
    end = Div (end_product, scaled_exact)

    extent = Sub (end, start)
    reduction = Div (extent, seen_exact)
    widening = Max (reduction, one)
    reach = Mul (support, widening)
    before = Sub (start, reach)
    behind = Add (end, reach)
    before_whole = Floor (before)
    behind_whole = Ceil (behind)
    before_pixel = Cast <to = 7> (before_whole)
    behind_pixel = Cast <to = 7> (behind_whole)
    first_wanted = Sub (before_pixel, one_pixel)
    last_wanted = Add (behind_pixel, one_pixel)
    first = Max (first_wanted, no_pixel)
    last = Min (last_wanted, length)

    first_exact = Cast <to = 11> (first)
    start_within = Sub (start, first_exact)
    end_within = Sub (end, first_exact)
    box_start = Cast <to = 1> (start_within)
    box_end = Cast <to = 1> (end_within)
    box_extent = Sub (box_end, box_start)
    box_extent_exact = Cast <to = 11> (box_extent)
    box_start_exact = Cast <to = 11> (box_start)
    scale = Div (box_extent_exact, seen_exact)
    filter_scale = Max (scale, one)
    filter_reach = Mul (support, filter_scale)
    per_pixel = Div (one, filter_scale)

    last_axis = Constant <value_ints = [1]> ()
    first_axis = Constant <value_ints = [0]> ()
    outputs = Range (zero, seen_exact, one)
    middles = Add (outputs, half)
    steps = Mul (middles, scale)
    centres_row = Add (box_start_exact, steps)
    centres = Unsqueeze (centres_row, last_axis)
    lowest = Sub (centres, filter_reach)
    highest = Add (centres, filter_reach)
    lowest_rounded = Add (lowest, half)
    highest_rounded = Add (highest, half)
    from_pixel = Floor (lowest_rounded)
    to_pixel = Floor (highest_rounded)
    read = Sub (last, first)
    read_exact = Cast <to = 11> (read)
    pixel_row = Range (zero, read_exact, one)
    pixels = Unsqueeze (pixel_row, first_axis)
    at_least = GreaterOrEqual (pixels, from_pixel)
    at_most = Less (pixels, to_pixel)
    inside = And (at_least, at_most)

    from_centre = Sub (pixels, centres)
    from_middle = Add (from_centre, half)
    signed_distance = Mul (from_middle, per_pixel)
    distance = Abs (signed_distance)
    {weights}
    is_near = Less (distance, one)
    is_within = Less (distance, support)
    far_or_none = Where (is_within, far, zero)
    reached = Where (is_near, near, far_or_none)
    weights = Where (inside, reached, zero)
    axis_of_pixels = Constant <value = int64 {{1}}> ()
    running_sums = CumSum (weights, axis_of_pixels)
    final = Constant <value_ints = [-1]> ()
    beyond = Constant <value_ints = [9223372036854775807]> ()
    sums = Slice (running_sums, final, beyond, last_axis)
    shares = Div (weights, sums)

    sizes = Abs (shares)
    signs = Sign (shares)
    fixed = Mul (sizes, unit)
    fixed_up = Add (fixed, half)
    fixed_size = Floor (fixed_up)
    coefficients = Mul (signs, fixed_size)
}}
"""

# What `clip8` does with a sum of coefficients times samples.
_LEVELS = """
<opset_import: ["" : 20], domain: "topwork">
levels (sums) => (samples)
{
    half = Constant <value = double {2097152.0}> ()
    unit = Constant <value = double {4194304.0}> ()
    black = Constant <value = double {0.0}> ()
    white = Constant <value = double {255.0}> ()
    raised = Add (sums, half)
    divided = Div (raised, unit)
    whole = Floor (divided)
    samples = Clip (whole, black, white)
}
"""

_UNITS = {
    CROP: """
        unit_height = Min (height, width)
        unit_width = Min (height, width)
    """,
    PAD: """
        unit_height = Max (height, width)
        unit_width = Max (height, width)
    """,
    SQUASH: """
        unit_height = Identity (height)
        unit_width = Identity (width)
    """,
}

# What is seen in the middle of the colour of the margin.
_MARGIN = """
    side = Constant <value = int64[2] {{{crop}, {crop}}}> ()
    two_pixels = Constant <value_ints = [2]> ()
    seen_size = Shape <start = 1, end = 3> (seen)
    lacking = Sub (side, seen_size)
    ahead = Div (lacking, two_pixels)
    after = Sub (lacking, ahead)
    around = Concat <axis = 0> (ahead, after)
    planes_axes = Constant <value_ints = [1, 2]> ()
    colour = Constant <value = double[3, 1, 1] {{{margin}}}> ()
    difference = Sub (seen, colour)
    nothing = Constant <value = double {{0.0}}> ()
    widened = Pad (difference, around, nothing, planes_axes)
    levels = Add (widened, colour)
"""

_GRAPH = """
<ir_version: 10, opset_import: ["" : 20, "topwork" : 1]>
pixels (uint8[height, width, 3] image) => (
    uint8[3, {crop}, {crop}] crop, float[1, 3, {crop}, {crop}] input
)
{{
    shape = Shape <start = 0, end = 2> (image)
    zero = Constant <value = int64 {{0}}> ()
    one = Constant <value = int64 {{1}}> ()
    height = Gather (shape, zero)
    width = Gather (shape, one)
    {units}
    first_row, last_row, down = topwork.axis (height, unit_height)
    first_column, last_column, across = topwork.axis (width, unit_width)

    front = Constant <value_ints = [0]> ()
    first_row_1 = Unsqueeze (first_row, front)
    last_row_1 = Unsqueeze (last_row, front)
    first_column_1 = Unsqueeze (first_column, front)
    last_column_1 = Unsqueeze (last_column, front)
    firsts = Concat <axis = 0> (first_row_1, first_column_1)
    lasts = Concat <axis = 0> (last_row_1, last_column_1)
    both_axes = Constant <value_ints = [0, 1]> ()
    window = Slice (image, firsts, lasts, both_axes)
    planes = Transpose <perm = [2, 0, 1]> (window)
    samples = Cast <to = 11> (planes)

    across_columns = Transpose <perm = [1, 0]> (across)
    row_sums = MatMul (samples, across_columns)
    rows = topwork.levels (row_sums)
    sums = MatMul (down, rows)
    seen = topwork.levels (sums)
    {whole}
    crop = Cast <to = 2> (levels)

    batch = Unsqueeze (levels, front)
    batch_32 = Cast <to = 1> (batch)
    white = Constant <value = float {{255.0}}> ()
    mean = Constant <value = float[1, 3, 1, 1] {{{mean}}}> ()
    std = Constant <value = float[1, 3, 1, 1] {{{std}}}> ()
    shares = Div (batch_32, white)
    centred = Sub (shares, mean)
    input = Div (centred, std)
}}
"""


def graph(preprocess: Preprocess) -> onnx.ModelProto:
    """Return the graph: `image`, uint8 (height, width, 3), to `crop` and `input`.

    `crop` is what `Preprocess.uint8` returns, `input` what `Preprocess.normalise` makes of it as a
    batch of one. Of an earlier revision there is no graph (`export_request.check`).
    """
    crop, fit = preprocess.crop, preprocess.fit
    geometry = {"resize": preprocess.resize if fit == CROP else crop, "crop": crop}
    whole = "levels = Identity (seen)"
    if fit == PAD:
        whole = _MARGIN.format(crop=crop, margin=_numbers(preprocess.margin))
    numbers = {name: _numbers(getattr(preprocess, name)) for name in ("mean", "std")}
    model = parser.parse_model(_GRAPH.format(**geometry, **numbers, units=_UNITS[fit], whole=whole))
    axis = _AXIS.format(
        **geometry,
        support=SUPPORT[preprocess.interpolation],
        weights=_WEIGHTS[preprocess.interpolation],
    )
    model.functions.extend([parser.parse_function(axis), parser.parse_function(_LEVELS)])
    # Functions are not known to every reader of ONNX; without them the graph is plain operators.
    plain = inliner.inline_local_functions(model)
    onnx.checker.check_model(plain, full_check=True)
    return plain


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.17g}" for value in map(float, values))
