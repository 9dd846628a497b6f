"""Sentences by a causal language model of transformers that lies on this machine: greedy, bounded, offline, from safetensors."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.spotting.glosses import words_of

PROMPT = Path(__file__).with_name("prompt.txt")
MOST_TOKENS = 40
"""Of a sentence; it ends with its line."""
MOST_GLOSSES, MOST_CONTEXT, MOST_LETTERS = 40, 20, 60
"""What goes into a prompt at most."""
KNOWN = {"llama-3.2-1b": "meta-llama/Llama-3.2-1B", "llama-3.2-1b-instruct": "meta-llama/Llama-3.2-1B-Instruct"}
"""Short names; Insignia's notebook (exotic123567/Insignia) uses the first."""


class LanguageModel:
    """A folder of a model, or a name that was fetched into the hub's cache before. Nothing is fetched here, no code of it runs.

    Equal glosses give equal sentences. Raises UserError where it is not there, or is no causal model in safetensors.
    """

    def __init__(self, name: str, device: str = "cpu") -> None:
        self.name, self.device = name, device
        self.tokenizer, self.model = _loaded(KNOWN.get(name.lower(), name), name, device)

    def sentence(self, glosses: Sequence[str], context: Sequence[str] = ()) -> str:
        """The model's line, in one sentence; empty where it says nothing."""
        import torch
        import transformers

        if not glosses:
            return ""
        given = self.tokenizer(prompt(glosses, context), return_tensors="pt").to(self.device)
        used, ends = given["input_ids"].shape[1], self.model.generation_config.eos_token_id
        config: Any = transformers.GenerationConfig
        greedy = config(do_sample=False, max_new_tokens=self._room(used), eos_token_id=ends, pad_token_id=self.tokenizer.eos_token_id)
        self.model.generation_config = greedy  # that of its folder may sample
        with torch.inference_mode():
            said = self.model.generate(input_ids=given["input_ids"], attention_mask=given["attention_mask"])
        return first_sentence(self.tokenizer.decode(said[0, used:], skip_special_tokens=True))

    def _room(self, used: int) -> int:
        """Tokens that the model may still write; raises UserError where the prompt fills all it can read."""
        most = int(getattr(self.model.config, "max_position_embeddings", 0) or used + MOST_TOKENS)
        if used >= most:
            raise UserError(
                f"--sentence {self.name}: it reads {most} tokens, and the prompt has {used}; use a larger one, or --sentence rules"
            )
        return min(MOST_TOKENS, most - used)


def prompt(glosses: Sequence[str], context: Sequence[str] = ()) -> str:
    """The text of prompt.txt with these; no gloss can add a line to it."""
    said = " ".join(_plain(words_of(gloss).upper()) for gloss in glosses[-MOST_GLOSSES:])
    known = ", ".join(_plain(word) for word in context[:MOST_CONTEXT])
    template = PROMPT.read_text(encoding="utf-8").rstrip("\n")
    return template.replace("{glosses}", said).replace("{context}", f"Context: {known}\n" if known else "")


def _plain(text: str) -> str:
    return re.sub(r"[\s{}]+", " ", text).strip()[:MOST_LETTERS]


def first_sentence(text: str) -> str:
    """Of the first line that says something, up to the end of its first sentence."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    end = re.search(r"[.!?](?=\s|$)", line)
    return line[: end.end()] if end else line


def _loaded(place: str, name: str, device: str) -> tuple[Any, Any]:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise UserError(f"--sentence {name} needs transformers: pip install -e '.[language]', or use --sentence rules") from error
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
        model = AutoModelForCausalLM.from_pretrained(place, use_safetensors=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"--sentence {name}: no causal language model in safetensors is there ({reason}); give the folder of one, or the name of one "
            f"that was fetched before, or use --sentence rules"
        ) from error
    moved: Any = model
    return tokenizer, moved.to(device).eval()
