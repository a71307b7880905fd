"""Prompts of random letters, and a tokenizer that shows what became of them."""

from __future__ import annotations

import numpy as np

END = 0


class Letters:
    """A tokenizer whose token 1 is "b", 2 is "c" and so on; token 30 is two letters, token 0 ends."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) - ord("a") for letter in text]

    def decode(self, ids, skip_special_tokens: bool = False) -> str:
        return "".join(self.token(int(i)) for i in ids if i != END or not skip_special_tokens)

    def token(self, token: int) -> str:
        return "xy" if token == 30 else chr(ord("a") + token)


def prompts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 61, size=length).tolist() for length in lengths]
