from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.methods.test_generative import cloudy, last_seen, latent

from pellucid.data.tokenizer import Tokenizer, learn_tokenizer
from pellucid.errors import InputError
from pellucid.methods import space
from pellucid.methods.generative import Generative
from pellucid.methods.sampling import with_sampling
from pellucid.methods.space import Texts
from pellucid.networks import text_encoder

PROMPTS = ("a lake in summer", "a forest")


def tokenizer(length: int = 8) -> Tokenizer:
    return learn_tokenizer(PROMPTS, size=20, length=length)


def encoder(**changes: Any) -> text_encoder.TextEncoder:
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "width": 16, "num_layers": 2, "num_heads": 2, "length": 8, **changes}
    return text_encoder.build(text_encoder.Config(**sizes))


def known() -> Texts:
    return Texts(encoder(), tokenizer())


def conditioned(**options: Any) -> Generative:
    return latent(texts=known(), **options)


def test_tokens_are_those_of_the_network_and_know_nothing_of_the_batch() -> None:
    given = known()
    ids = tokenizer()([*PROMPTS, PROMPTS[0]])
    found = given.encode((*PROMPTS, PROMPTS[0]), "cpu")
    assert (found.shape, found.dtype, given.width) == ((3, 8, 16), torch.float32, 16)
    with torch.no_grad():
        torch.testing.assert_close(found, given.network(ids))
    assert given.encode(PROMPTS[1:], "cpu").equal(found[1:2])
    assert not given.network.training
    assert not any(weight.requires_grad for weight in given.network.parameters())


def test_what_was_encoded_in_inference_or_half_precision_serves_in_training() -> None:
    given, exact = known(), known().encode(PROMPTS, "cpu")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        given.encode(PROMPTS, "cpu")
    tokens = given.encode(PROMPTS, "cpu")
    assert tokens.equal(exact)
    weight = torch.ones((), requires_grad=True)
    (weight * tokens).sum().backward()
    assert weight.grad is not None


def test_only_the_texts_that_came_last_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "NUM_KEPT", 2)
    given, calls = known(), []
    given.network.register_forward_hook(lambda *_: calls.append(1))
    for prompts, num_calls in ((("a", "b"), 2), (("b", "a"), 2), (("c",), 3), (("a",), 3), (("b",), 4)):
        given.encode(prompts, "cpu")
        assert len(calls) == num_calls


def test_a_tokenizer_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="the text encoder's vocabulary is 6; set vocab_size to at least"):
        Texts(encoder(vocab_size=6), tokenizer())
    with pytest.raises(InputError, match="the tokenizer gives 12 ids per text, the text encoder takes 8"):
        Texts(encoder(), tokenizer(length=12))


def test_the_network_is_conditioned_on_the_prompts_and_without_any_on_the_empty_text() -> None:
    method, given = conditioned(), cloudy()
    for prompt in (PROMPTS, None):
        method.restore(replace(given, prompt=prompt))
        tokens = last_seen(method)[1].tokens
        assert tokens is not None
        assert tokens.equal(known().encode(prompt or ("", ""), "cpu"))
        method.loss(replace(given, prompt=prompt), torch.Generator().manual_seed(0))
        again = last_seen(method)[1].tokens
        assert again is not None
        assert again.equal(tokens)
    assert method.takes_text
    assert not latent().takes_text
    assert latent().tokenizer is None


def test_encoded_samples_keep_their_prompts() -> None:
    method = conditioned()
    encoded = method.encode(replace(cloudy(), prompt=PROMPTS))
    assert encoded.prompt == PROMPTS
    method.loss(encoded, torch.Generator().manual_seed(0))
    tokens = last_seen(method)[1].tokens
    assert tokens is not None
    assert tokens.equal(known().encode(PROMPTS, "cpu"))


def test_a_dropped_prompt_is_the_empty_text_and_leaves_the_rest() -> None:
    given, empty = replace(cloudy(), prompt=PROMPTS), known().encode(("",), "cpu")[0]
    for dropped in ("prompt", "all"):
        method = conditioned(drop_condition=1 - 1e-9, dropped=dropped)
        method.network.train()
        encoded = method.encode(given)
        method.loss(given, torch.Generator().manual_seed(0))
        _, condition = last_seen(method)
        for image in (0, 1):
            if dropped == "prompt":
                assert condition.tokens[image].equal(empty)
                assert condition.degraded[image].equal(encoded.degraded[image])
                assert condition.sar[image].equal(encoded.sar[image])
            else:
                assert not condition.tokens[image].any()
                assert not condition.sar[image].any()


def test_as_many_prompts_are_dropped_as_is_said_and_only_in_training() -> None:
    method = conditioned(drop_condition=0.5, dropped="prompt")
    given, empty = replace(cloudy(64), prompt=PROMPTS[:1] * 64), known().encode(("",), "cpu")[0]
    for is_training in (True, False):
        method.network.train(is_training)
        method.loss(given, torch.Generator().manual_seed(0))
        tokens = last_seen(method)[1].tokens
        assert tokens is not None
        num_dropped = sum(each.equal(empty) for each in tokens)
        assert 20 < num_dropped < 44 if is_training else num_dropped == 0


def test_guidance_leads_away_from_the_empty_text_where_only_prompts_were_dropped() -> None:
    given = replace(cloudy(), prompt=PROMPTS)
    for dropped in ("prompt", "all"):
        method = conditioned(drop_condition=0.1, dropped=dropped)
        with_sampling(method, guidance=3.0, steps=1).restore(given)
        (_, null), (_, told) = method.network.seen[-2:]
        assert told.tokens.equal(known().encode(PROMPTS, "cpu"))
        if dropped == "prompt":
            assert null.tokens.equal(known().encode(("", ""), "cpu"))
            assert null.sar.equal(told.sar)
        else:
            assert not any(each.any() for each in (null.tokens, null.sar, null.degraded))


def test_prompts_cannot_be_dropped_where_there_are_none() -> None:
    with pytest.raises(InputError, match=r"method\.dropped is prompt, but no text encoder is named"):
        latent(drop_condition=0.1, dropped="prompt")
