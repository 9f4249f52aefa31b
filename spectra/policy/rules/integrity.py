"""Whether a checkpoint is whole: finite, complete, of one make."""

from spectra.policy.rule import Rule, Setting
from spectra.policy.rules.entries import (
    all_zero,
    dead_rows,
    dtype_mix,
    empty,
    non_finite,
    saturated,
)
from spectra.policy.rules.experts import untrained
from spectra.policy.rules.files import index_mismatch, truncated
from spectra.policy.rules.heads import dead_head
from spectra.policy.rules.inventory import missing, unexpected
from spectra.policy.rules.shapes import mismatch
from spectra.policy.rules.twins import duplicates, untied

RULES = (
    Rule(
        code="SPC001",
        name="non-finite",
        severity="error",
        needs="values",
        summary="a tensor holds NaN or Inf",
        why="One NaN reaches every output within a few layers. Inf is mostly what a cast to "
        "float16 made of weights that bfloat16 held.",
        how="Every entry of every tensor of weights is looked at, biases and norms too; masks "
        "are left out.",
        fix="Take the tensor from the checkpoint before the cast or merge, and store it as "
        "bfloat16 where float16 overflows.",
        judge=non_finite,
    ),
    Rule(
        code="SPC002",
        name="truncated-file",
        severity="error",
        needs="header",
        summary="a file of weights is cut, missing or no safetensors",
        why="A download that broke off leaves a file that some readers open without a word and "
        "others refuse at start.",
        how="Each file's header is compared with its size, and the index with the folder. What "
        "is whole is judged all the same; the tensors that are lost count as not covered.",
        fix="Fetch or write that file again.",
        judge=truncated,
    ),
    Rule(
        code="SPC003",
        name="index-mismatch",
        severity="error",
        needs="header",
        summary="the index and the shards disagree",
        why="A loader that goes by the index does not find what it puts elsewhere, and never "
        "sees what it does not name.",
        how="The weight_map of model.safetensors.index.json against the header of every shard, "
        "and against the shards of the same series in the folder; where a whole file lies beside "
        "an index and is the one that loaders take, against that.",
        fix="Write the index again from the shards (`save_pretrained`), and remove shards of "
        "earlier releases.",
        judge=index_mismatch,
    ),
    Rule(
        code="SPC004",
        name="missing-tensor",
        severity="error",
        needs="header",
        summary="a tensor or a layer is missing",
        why="Most loaders fill what is missing with random numbers and only log it.",
        how="Against the names in the baseline and in the base, a prefix apart; against what every "
        "model of its class holds (`architectures` of config.json; a table made from transformers, "
        "by the settings that matter); against the number of layers in config.json; and against "
        "the model itself: a number left out of its layers, or a layer without what nearly all of "
        "the others have and with nothing of its own. A head tied to the embeddings may be left "
        "out. Where tensors of other names stand in the place of what is missing it is a warning: "
        "they may be the same. A model saved as its body alone, without prefix and head, and a "
        "missing mask token, which only training uses, are notes.",
        fix="Write the checkpoint again from the whole model; check which keys the merge or "
        "conversion script renames or drops.",
        judge=missing,
    ),
    Rule(
        code="SPC005",
        name="unexpected-tensor",
        severity="warning",
        needs="header",
        summary="a tensor is here that a reference lacks",
        why="Loaders ignore what they do not expect: a wrong prefix or leftovers of a wrapper "
        "look like this.",
        how="Names that the baseline, or else the base, has not; a whole layer counts once; and "
        "layers or experts past those that config.json counts. Copies of tied embeddings are left "
        "out.",
        fix="If it is meant, such as a new head, add an [[ignore]] with the reason; else "
        "correct the names.",
        judge=unexpected,
    ),
    Rule(
        code="SPC006",
        name="shape-mismatch",
        severity="error",
        needs="header",
        summary="a tensor has another shape than a reference, config.json or its bias says",
        why="Loading fails, or takes the wrong rows for words.",
        how="Shapes of equal names in the baseline and the base; rows of the input embeddings "
        "below vocab_size; their columns against the hidden size, where that is not factorised; "
        "the length of a bias against the sides of its matrix; words, widths, layers "
        "and heads of which config.json has a number or a size that cannot be.",
        fix="After adding tokens, resize and save model, config and tokenizer together. If it "
        "is meant, add an [[ignore]].",
        judge=mismatch,
    ),
    Rule(
        code="SPC007",
        name="dtype-mix",
        severity="warning",
        needs="header",
        summary="a matrix is stored in another dtype than its like",
        why="A matrix that went another way than the others: merged in float32 and not cast "
        "back, or cast twice.",
        how="The stored dtype against that of at least 75 % of the matrices of its role in the "
        "same stack of layers, from four on. Quantised ones are left out.",
        fix="Cast the whole model once, on saving.",
        judge=dtype_mix,
    ),
    Rule(
        code="SPC008",
        name="all-zero",
        severity="error",
        needs="values",
        summary="a matrix holds nothing but zeros",
        why="It passes nothing on: it was never written, or never trained, as lora_B before "
        "the first step.",
        how="Every entry is 0 or -0. Token type tables that a model does without are left out.",
        fix="Take the matrix from an earlier checkpoint; of an adapter, check that it was "
        "trained before it was saved.",
        judge=all_zero,
    ),
    Rule(
        code="SPC009",
        name="duplicate-matrix",
        severity="error",
        needs="values",
        summary="a matrix equals another one bit for bit",
        why="A loop that wrote one layer twice gives a model that loads and is worse than it was.",
        how="A digest of shape and values, equal to that of an earlier matrix. Tied embeddings, "
        "zeros and matrices of one row or column are left out. A layer that is a copy in all "
        "matrices is told once.",
        fix="Check the layer numbers of the merge or conversion. If layers were repeated on "
        "purpose, add an [[ignore]].",
        judge=duplicates,
    ),
    Rule(
        code="SPC010",
        name="dead-rows",
        severity="warning",
        needs="values",
        summary="too many rows or columns of a matrix are zero",
        why="A zero row is an output that is always 0, a zero column an input that is never "
        "read: pruned, masked or padded.",
        how="The share of rows, and of columns, that hold nothing but 0. Embeddings and heads "
        "over the vocabulary, where unused words are zero, are left out, and so are attention "
        "heads that SPC011 tells, and directions of an adapter that neither factor uses, as of "
        "experts below the rank of their stack.",
        fix="If it was pruned or padded on purpose, raise `max` or add an [[ignore]].",
        judge=dead_rows,
        settings=(Setting("max", "share", 0.01, "share of zero rows or columns allowed"),),
    ),
    Rule(
        code="SPC011",
        name="dead-head",
        severity="error",
        needs="values",
        summary="an attention head is zero",
        why="A head whose q or k is zero attends to everything alike; one whose v or output is "
        "zero adds nothing.",
        how="All rows of one head in q, k or v, or all its columns in the output projection, "
        "are 0; heads as config.json counts them.",
        fix="If heads were pruned on purpose, add an [[ignore]]; else take the layer from an "
        "earlier checkpoint.",
        judge=dead_head,
    ),
    Rule(
        code="SPC012",
        name="untied-head",
        severity="error",
        needs="values",
        summary="the head is said to be tied and differs from the embeddings",
        why="Loaders that believe the configuration drop the stored head, and the model answers "
        "with another one than was trained.",
        how="tie_word_embeddings is true in config.json, its class ties one (where it is known), "
        "and a stored head of the same shape and dtype holds other values than the input "
        "embeddings.",
        fix="Set tie_word_embeddings to false, or leave the head out.",
        judge=untied,
    ),
    Rule(
        code="SPC013",
        name="saturated",
        severity="warning",
        needs="values",
        summary="entries lie at the largest number of their dtype",
        why="They were larger before a cast that clips, so that their values are lost.",
        how="Entries of float16 and bfloat16 tensors whose magnitude is the largest finite one; "
        "masks are left out.",
        fix="Cast again from the original to bfloat16 or float32.",
        judge=saturated,
    ),
    Rule(
        code="SPC014",
        name="empty-tensor",
        severity="error",
        needs="header",
        summary="a tensor of weights has no elements",
        why="Training that spreads parameters over processes (ZeRO-3, FSDP) leaves empty stubs "
        "where a save did not gather them. Loaders refuse such a file, or fill in random numbers.",
        how="Every tensor named weight or bias whose shape has a 0; of others those that the base "
        "or the baseline has elements for; all of an adapter.",
        fix="Gather before saving (`stage3_gather_16bit_weights_on_model_save`, or "
        "`zero_to_fp32.py` on the checkpoint), or take the tensor from the base.",
        judge=empty,
    ),
    Rule(
        code="SPC015",
        name="untrained-expert",
        severity="warning",
        needs="values",
        summary="experts are zero, of one value, or equal to one another",
        why="An expert that the router never chose is as it was made: it takes room, and a token "
        "that is sent there gets nothing, or what another expert says.",
        how="All matrices of an expert hold nothing but 0 or one value throughout, or equal those "
        "of another expert of its layer bit for bit. Such experts are left out of SPC008, SPC009 "
        "and of all that compares spectra; one told here is told once a layer.",
        fix="Look at the router's balance loss and at how the experts were made; experts that "
        "were copied on purpose (upcycling) deserve an [[ignore]] until they are trained.",
        judge=untrained,
    ),
)
