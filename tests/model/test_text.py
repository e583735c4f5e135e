import pytest
import torch
from diffusers.pipelines.wan import pipeline_wan

from vera.core.errors import InputError
from vera.core.model.text import WanText, clean


@pytest.fixture
def text(tokenizer, encoder):
    return WanText(tokenizer, encoder, max_length=12)


def test_states_past_the_prompt_are_zero(text):
    states = text.encode(["add a boat", "add snow to the red sea", ""])
    assert states.shape == (3, 12, 32)
    for row, length in zip(states, (4, 7, 1)):  # words and the end token
        assert (row[:length].abs().amax(dim=1) > 0).all() and (row[length:] == 0).all()


def test_states_do_not_depend_on_batch_mates_or_padding(text, tokenizer, encoder):
    alone = text.encode(["add a boat"])
    torch.testing.assert_close(text.encode(["add snow to the red sea", "add a boat"])[1:], alone, rtol=0, atol=1e-6)
    with torch.no_grad():
        bare = encoder(tokenizer("add a boat", return_tensors="pt").input_ids).last_hidden_state
    torch.testing.assert_close(alone[:, :4], bare, rtol=0, atol=1e-6)
    longer = WanText(tokenizer, encoder, max_length=20).encode(["add a boat"])
    torch.testing.assert_close(longer[:, :12], alone, rtol=0, atol=1e-6)
    assert (longer[:, 12:] == 0).all()


def test_states_are_those_of_wans_pipeline(text, tokenizer, encoder):
    pipeline = pipeline_wan.WanPipeline(tokenizer=tokenizer, text_encoder=encoder, vae=None, scheduler=None)
    prompts = ["add  a red &amp; boat", "snow"]
    with torch.no_grad():
        theirs = pipeline._get_t5_prompt_embeds(prompts, max_sequence_length=12, device="cpu")
    torch.testing.assert_close(text.encode(prompts), theirs, rtol=0, atol=1e-6)


def test_the_encoders_type_is_kept(tokenizer, encoder):
    assert WanText(tokenizer, encoder.bfloat16()).encode(["boat"]).dtype == torch.bfloat16


def test_a_prompt_too_long_is_refused_not_cut(text):
    with pytest.raises(InputError, match="14 tokens, the model reads 12"):
        text.encode(["boat " * 13])
    with pytest.raises(InputError, match="14 tokens, the model reads 12"):
        text.check("boat " * 13)


@pytest.mark.parametrize("prompt", ["  add\t a\n boat ", "snow &amp;amp; sea", "a&nbsp;boat", "“red” – €", ""])
def test_prompts_are_cleaned_as_wan_does(prompt, monkeypatch):
    monkeypatch.setattr(pipeline_wan, "is_ftfy_available", lambda: False)
    assert clean(prompt) == pipeline_wan.prompt_clean(prompt)


def test_every_word_is_taken(text):
    assert text.check("xyzzy") == []
