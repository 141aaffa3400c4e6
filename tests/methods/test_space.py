from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.methods.test_generative import cloudy, last_seen, latent

from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.data.resample import all_inside
from pellucid.data.tokenizer import Tokenizer, learn_tokenizer
from pellucid.errors import InputError
from pellucid.methods import space
from pellucid.methods.autoencoding import Autoencoding, AutoencodingConfig
from pellucid.methods.generative import Generative
from pellucid.methods.sampling import with_sampling
from pellucid.methods.space import Latents, Pixels, Texts
from pellucid.networks import text_encoder
from pellucid.networks.autoencoder import Config, build


def latents() -> Latents:
    torch.manual_seed(0)
    network = build(
        Config(bands=2, width=8, multipliers=(1, 2, 2), num_blocks=1, latent_channels=3, groups=4)
    )
    return Latents(
        Autoencoding(network, AutoencodingConfig(), optical=SENTINEL2.select(()), radar=SENTINEL1, losses={})
    )


def test_pixels_go_from_minus_one_to_one_and_back() -> None:
    image = torch.rand(2, 3, 4, 6)
    space = Pixels(3)
    torch.testing.assert_close(space.decode(space.encode(image)), image)
    assert space.encode(torch.tensor([0.0, 0.5, 1.0, torch.nan])).tolist() == [-1, 0, 1, 0]


def test_latents_are_those_of_the_network() -> None:
    space = latents()
    image = torch.rand(1, 2, 8, 12)
    found = space.encode(image)
    assert (space.channels, space.factor, found.shape) == (3, 4, (1, 3, 2, 3))
    with torch.no_grad():
        torch.testing.assert_close(found, space.network.encode(2 * image - 1))
        torch.testing.assert_close(space.decode(found), (space.network.decode(found) + 1) / 2)


def test_a_grey_image_is_seen_as_many_times_as_there_are_bands() -> None:
    coder, grey = latents(), torch.rand(2, 1, 8, 8)
    found = Latents(coder.coder, copies=2).encode(grey)
    assert found.equal(coder.encode(grey.expand(-1, 2, -1, -1)))


def test_gradients_pass_the_decoder_but_change_no_autoencoder() -> None:
    space = latents()
    values = torch.randn(1, 3, 2, 2, requires_grad=True)
    space.decode(values).sum().backward()
    assert values.grad is not None
    assert values.grad.abs().sum() > 0
    assert not any(weight.requires_grad for weight in space.network.parameters())
    assert not space.network.training
    assert not space.encode(torch.rand(1, 2, 8, 8, requires_grad=True)).requires_grad


def test_a_latent_pixel_is_inside_if_all_its_pixels_are() -> None:
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    mask[0, 0, 3, 1] = False
    assert all_inside(mask, 2).tolist() == [[[[1, 1], [0, 1]]]]
    assert all_inside(mask, 1).equal(mask.float())


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
