"""A model in a GGUF file back to the checkpoint that it can be trained on from.

The bundled model is there in its quantized forms alone. Its weights come back as what they were rounded to, so the
checkpoint answers as the file does.
"""

from __future__ import annotations

from pathlib import Path

from toolace_edge.errors import ModelError
from toolace_edge.formats import compact

from .base_gguf import read_base
from .cut_vocabulary import smollm_tokenizer
from .model import to_hugging_face
from .run_files import whole_folder
from .tokenizer import save_tokenizer


def unpack_gguf(gguf: Path, out: Path) -> None:
    """Writes the Hugging Face folder `out`. ModelError where the file is not of the bundled model's kind, InputError
    where `out` is there already.
    """
    with whole_folder(out) as folder:
        base = read_base(gguf)
        vocab = {token: i for i, token in enumerate(base.tokens)}
        missing = [token for token in compact.SPECIAL_TOKENS if token not in vocab]
        if missing:
            raise ModelError(
                f"{gguf}: has no token {missing[0]}; only models of our own format can be unpacked.",
                hint="Train others from the Hugging Face folder that they were converted from.",
            )
        tokenizer = smollm_tokenizer(vocab, base.merges)
        tokenizer.add_special_tokens(list(compact.SPECIAL_TOKENS))
        to_hugging_face(base.state, base.config, folder)
        save_tokenizer(tokenizer, folder)
