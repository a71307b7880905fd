"""What a model's folder says about generating: `generation_config.json`, the defaults of `generate`."""

from __future__ import annotations

import copy
import json
import types
import warnings
from pathlib import Path
from typing import Any

from pymodel.models.config import PretrainedConfig, read_json

GENERATION_FILE = "generation_config.json"

TOKEN_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
# What old configurations hold in `config.json` itself.
_OPTION_KEYS = (
    "bad_words_ids",
    "do_sample",
    "early_stopping",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beams",
    "num_return_sequences",
    "repetition_penalty",
    "temperature",
    "top_k",
    "top_p",
)
_OLD_MAX_LENGTH = 20  # a default that was written out now and then, and that nobody meant
# What would change the text and is not built in.
_WITHOUT_EFFECT = (
    "begin_suppress_tokens",
    "diversity_penalty",
    "dola_layers",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "epsilon_cutoff",
    "eta_cutoff",
    "exponential_decay_length_penalty",
    "force_words_ids",
    "guidance_scale",
    "max_time",
    "num_beam_groups",
    "penalty_alpha",
    "sequence_bias",
    "suppress_tokens",
    "top_h",
    "typical_p",
    "watermarking_config",
)
_NEUTRAL: tuple[Any, ...] = (None, False, 0, 1, [], {})  # values with which a key changes nothing


class GenerationConfig(types.SimpleNamespace):
    """Defaults of `generate` for one model, as attributes with the names of `GenerationOptions`: arguments
    of a call come before them.

    Keys that nothing here reads are kept and written back.
    """

    @classmethod
    def from_folder(cls, folder: Path, config: PretrainedConfig) -> GenerationConfig:
        """Reads a model folder's `generation_config.json`; without one, what `config.json` says.

        Raises: CheckpointError when the file is no JSON object. Warns of keys that have no effect.
        """
        path = folder / GENERATION_FILE
        if not path.is_file():
            return cls.from_model_config(config)
        values = read_json(path)
        idle = [name for name in _WITHOUT_EFFECT if values.get(name) not in _NEUTRAL]
        if idle:
            warnings.warn(f"{path}: {', '.join(idle)} not built in, so without effect here", stacklevel=3)
        return cls(**values)

    @classmethod
    def from_model_config(cls, config: PretrainedConfig) -> GenerationConfig:
        """The options that a model's configuration holds, as those of old versions of transformers do."""
        values = {name: getattr(config, name, None) for name in _OPTION_KEYS}
        if values["max_length"] == _OLD_MAX_LENGTH:
            del values["max_length"]
        given = {name: copy.deepcopy(value) for name, value in values.items() if value is not None}
        return cls(_from_model_config=True, **given)

    def to_json(self, config: PretrainedConfig) -> str:
        """The text of `generation_config.json`, with the tokens of the model's configuration where none are
        set here."""
        tokens = {name: getattr(config, name, None) for name in TOKEN_KEYS}
        content = {
            **{name: token for name, token in tokens.items() if token is not None},
            **{name: value for name, value in vars(self).items() if value is not None},
        }
        return json.dumps(content, indent=2, sort_keys=True) + "\n"
