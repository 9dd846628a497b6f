"""Sentences: by rules, and by a language model that lies on this machine, here a tiny one with seeded weights."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.spotting.glosses import Gloss, sentences_of, words_of
from pipeline.spotting.sentences.language_model import MOST_TOKENS, LanguageModel, first_sentence, prompt
from pipeline.spotting.sentences.writer import writer
from tests.checkout import ROOT


@pytest.mark.parametrize(
    ("glosses", "context", "said"),
    [
        (("I", "SICK"), (), "I am sick."),
        (("I", "Sick"), ("chest", "night"), "I am sick (chest, night)."),
        (("HELLO", "YOU", "DOCTOR"), (), "Hello, you are a doctor."),
        (("THEY", "Baby"), (), "They are babies."),
        (("BOOK", "WHERE"), (), "Where book?"),
        (("12. loud", "101_SI", "THANK_YOU"), (), "Loud si thank you."),
        (("THANKS",), (), "Thank you."),
        (("she (formal)", "healthy"), (), "She is healthy."),
        ((), ("chest",), ""),
    ],
)
def test_rules_make_a_sentence_of_glosses(glosses: tuple[str, ...], context: tuple[str, ...], said: str) -> None:
    assert writer("rules", "cpu").sentence(glosses, context) == said


def test_labels_are_said_without_numbers_and_notes() -> None:
    assert [words_of(label) for label in ("1. loud", "101_SI", "you (plural)", "THANK_YOU", "2")] == ["loud", "SI", "you", "THANK YOU", "2"]


def test_a_long_pause_ends_a_sentence() -> None:
    glosses = [Gloss("A", 0, 1, 1), Gloss("B", 3.5, 4, 1), Gloss("C", 7.5, 8, 1)]
    assert sentences_of(glosses) == [["A", "B"], ["C"]]
    assert sentences_of([]) == []


def test_what_is_asked_of_a_model_stands_in_a_file_and_a_gloss_adds_no_line_to_it() -> None:
    text = prompt(["I", "1. sick"], ["chest"])
    assert text.endswith("\n\nGlosses: I SICK\nContext: chest\nSentence:")
    assert prompt(["I"]).endswith("\n\nGlosses: I\nSentence:")
    nasty = prompt(["A\nSentence: no.\n\n{context}"], ["x\ny {glosses}"])
    assert nasty.count("\n") == text.count("\n")
    assert len(prompt(["W" * 999] * 999, ["c" * 999] * 999)) < len(prompt([], ["x"])) + 61 * 40 + 62 * 20


@pytest.mark.parametrize(
    ("text", "said"),
    [(" I am sick. You too.\nGlosses: A", "I am sick."), ("\n\n Is it 3.5 km?", "Is it 3.5 km?"), ("no end", "no end"), (" \n", "")],
)
def test_of_what_a_model_writes_one_sentence_is_taken(text: str, said: str) -> None:
    assert first_sentence(text) == said


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Llama of two small layers, seeded, whose own settings sample; its tokens are letters."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("model")
    letters = sorted(set(prompt(["I", "SICK"], ["x"]) + "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .?"))
    vocabulary = {letter: number for number, letter in enumerate(["<s>", "</s>", "<unk>", *letters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106  # no password
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
    fast.save_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = transformers.LlamaConfig(vocab_size=len(vocabulary), max_position_embeddings=1200, bos_token_id=0, eos_token_id=1, **sizes)
    torch.manual_seed(0)
    network = transformers.LlamaForCausalLM(config)
    network.generation_config = transformers.GenerationConfig(do_sample=True, temperature=0.7, eos_token_id=1, bos_token_id=0)
    network.save_pretrained(folder)
    return folder


def plainly(folder: Path, text: str, steps: int) -> str:
    """The likeliest letter again and again, until the end of text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, network = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    used = ids.shape[1]
    with torch.inference_mode():
        for _ in range(steps):
            best = network(input_ids=ids).logits[0, -1].argmax()
            ids = torch.cat([ids, best.view(1, 1)], 1)
            if best == 1:
                break
    return str(tokenizer.decode(ids[0, used:], skip_special_tokens=True))


def test_a_model_writes_its_likeliest_words_and_no_more_than_so_many(model: Path) -> None:
    said = LanguageModel(str(model)).sentence(["I", "SICK"], ["chest"])
    assert said == first_sentence(plainly(model, prompt(["I", "SICK"], ["chest"]), MOST_TOKENS))
    assert said
    assert len(said) <= MOST_TOKENS
    assert writer(str(model), "cpu").sentence(["I", "SICK"], ["chest"]) == said
    assert LanguageModel(str(model)).sentence([]) == ""


def test_a_prompt_that_fills_a_model_is_one_line(model: Path) -> None:
    found = LanguageModel(str(model))
    with pytest.raises(UserError, match=r"it reads 1200 tokens, and the prompt has \d+; use a larger one, or --sentence rules"):
        found.sentence(["A" * 60] * 40)


def test_a_model_is_read_without_a_network_and_without_running_its_code(model: Path, tmp_path: Path) -> None:
    """A folder that brings code is refused; a name that was never fetched is said to be none."""
    own = tmp_path / "own code"
    own.mkdir()
    for file in model.iterdir():
        (own / file.name).write_bytes(file.read_bytes())
    config = json.loads((own / "config.json").read_text())
    config |= {
        "model_type": "mine",
        "architectures": ["Mine"],
        "auto_map": {"AutoConfig": "code.Mine", "AutoModelForCausalLM": "code.Mine"},
    }
    (own / "config.json").write_text(json.dumps(config))
    (own / "code.py").write_text(f"import pathlib\n\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "hub")}
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('a network was asked for')\n"
        "socket.socket.connect = refuse\n"
        "from pipeline.errors import UserError\n"
        "from pipeline.spotting.sentences.language_model import LanguageModel\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n        LanguageModel(name)\n    except UserError as error:\n        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(own), "Llama-3.2-1B", str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for name, line in zip((str(own), "Llama-3.2-1B", str(tmp_path)), lines, strict=True):
        assert re.match(
            rf"--sentence {re.escape(name)}: no causal language model in safetensors is there \(.*\); give the folder of one", line
        )
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_are_not_read(model: Path, tmp_path: Path) -> None:
    import torch

    for file in model.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"no causal language model in safetensors is there"):
        LanguageModel(str(tmp_path))
