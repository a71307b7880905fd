"""Text sources, the built-in corpus, held-out splits, token files and batches."""

from pymodel.data.batches import IGNORED_LABEL, LanguageModelBatches, evaluation_windows
from pymodel.data.compression import gzip_bits_per_byte
from pymodel.data.corpus import standard_library_files, standard_library_root
from pymodel.data.readers import Document
from pymodel.data.sources import STANDARD_LIBRARY, Corpus, Documents, iter_documents, resolve
from pymodel.data.split import Part, Split, is_held_out, split_documents
from pymodel.data.tokens import TokenFile, TokenHeader, tokenize_corpus

__all__ = [
    "IGNORED_LABEL",
    "STANDARD_LIBRARY",
    "Corpus",
    "Document",
    "Documents",
    "LanguageModelBatches",
    "Part",
    "Split",
    "TokenFile",
    "TokenHeader",
    "evaluation_windows",
    "gzip_bits_per_byte",
    "is_held_out",
    "iter_documents",
    "resolve",
    "split_documents",
    "standard_library_files",
    "standard_library_root",
    "tokenize_corpus",
]
