"""What is counted from a configuration is what the real model takes; a batch that is found fits."""

import copy

import psutil
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, Trainer, TrainingArguments, VoxtralConfig, VoxtralForConditionalGeneration

from stages.common.params import Params, TrainParams
from stages.voxtral import encoder_cache, last_layer, loading, memory, training
from stages.voxtral.adapters import add_lora, matched_layers
from stages.voxtral.models import open_model
from tests.tiny_model import SOURCE, open_adapted, open_tiny

# Of mistralai/Voxtral-Mini-3B-2507, as published: transformers' own default.
MINI = VoxtralConfig(audio_token_id=24)
# Of mistralai/Voxtral-Small-24B-2507: the decoder of mistralai/Mistral-Small-24B-Base-2501, by that model's published
# config.json, behind the encoder of the Mini.
SMALL = VoxtralConfig(
    audio_token_id=24,
    text_config=LlamaConfig(
        hidden_size=5120, num_hidden_layers=40, num_attention_heads=32, num_key_value_heads=8, head_dim=128,
        intermediate_size=32_768, vocab_size=131_072,
    ),
)  # fmt: skip
GIB = 1024**3
ALL = ["encoder", "projector", "decoder"]
NARROW = ["projector", "decoder"]


@pytest.fixture(scope="module")
def tiny_config() -> VoxtralConfig:
    return VoxtralConfig.from_pretrained(SOURCE.folder)


@pytest.fixture
def settings(params: Params):
    """`settings(mode="full")`: train's section with other values; scope is that of train.lora."""

    def change(scope: list[str] = ALL, **values: object) -> TrainParams:
        return params.train.model_copy(update={"lora": params.train.lora.model_copy(update={"scope": scope}), **values})

    return change


def test_weights_of_the_published_mini_are_counted_by_part():
    """4,676,271,104 parameters: the metadata of the published model's safetensors."""
    parts = memory.weight_bytes(memory.empty_model(MINI, torch.bfloat16))
    assert sum(parts.values()) == 2 * (4_676_271_104 + 1500 * 1280)  # the encoder's positions are loaded in float32
    assert parts["embeddings"] == parts["head"] == 2 * 131_072 * 3072
    assert parts["projector"] == 2 * (5120 * 3072 + 3072 * 3072)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_those_of_the_real_model(tiny_config, dtype):
    model, _ = open_tiny(dtype)
    real = sum(weight.nbytes for weight in model.parameters())
    assert sum(memory.weight_bytes(memory.empty_model(tiny_config, dtype)).values()) == real


def test_four_bits_are_bitsandbytes_bytes(tiny_config):
    """Codes of 16 and 256 values in each layer come on top, which count in a tiny one only."""
    model, _ = open_model(SOURCE, torch.float32, four_bit=True)
    decoder = model.model.language_model.layers
    quantised = [module for module in decoder.modules() if isinstance(module, nn.Linear)]
    assert len(quantised) == 14
    real = 0
    for layer in quantised:
        state = layer.weight.quant_state
        real += layer.weight.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes
    empty = memory.empty_model(tiny_config, torch.float32)
    whole, four = (memory.weight_bytes(empty, four_bit)["decoder"] for four_bit in (False, True))
    weights = sum(layer.in_features * layer.out_features for layer in quantised)
    assert four == pytest.approx(whole - 4 * weights + real, rel=0.02)


@pytest.mark.parametrize(("scope", "bfloat16"), [(ALL, True), (ALL, False), (["projector", "decoder"], True)])
def test_kept_tensors_counted_by_fakes_are_those_of_a_real_step(tiny_config, settings, demo_clips, scope, bfloat16):
    """With five layers of the encoder and four of the decoder, of which three are run."""
    config = copy.deepcopy(tiny_config)
    config.audio_config.num_hidden_layers, config.text_config.num_hidden_layers = 5, 4
    _, collator = open_tiny()
    batch = collator.training_batch(demo_clips[:2])
    train, taken_out = settings(scope), "encoder" not in scope
    model = add_lora(VoxtralForConditionalGeneration._from_config(config, dtype=torch.float32), train.lora).train()
    last_layer.only_kept_positions(model)
    if taken_out:
        tower = model.get_base_model().model.audio_tower
        batch["input_features"] = tower(batch["input_features"]).last_hidden_state.detach()
        model.get_base_model().model.audio_tower = encoder_cache.PassOn()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        real = memory.kept_for_backward(model, batch)
    [fake] = memory.kept_by_fakes(config, train, torch.float32, bfloat16, taken_out, [batch])
    assert len(fake.layers) == len(real.layers) == 4 + 5 * (not taken_out)
    for checkpointing in (False, True):
        assert fake.total(checkpointing) == pytest.approx(real.total(checkpointing), rel=0.01)
    assert real.total(True) < 0.6 * real.total(False)


def test_kept_tensors_are_all_that_autograd_holds(demo_clips):
    """Though they are dropped while they are counted: freed memory that is used again counts again."""
    model, collator = open_adapted(*ALL)
    batch = collator.training_batch(demo_clips[:1])
    held: dict[int, int] = {}
    weights = {weight.data_ptr() for weight in model.parameters()}

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        output = model(**batch)
    assert memory.kept_for_backward(model, batch).total(False) == sum(held.values()) > 0
    assert output.loss.requires_grad


def test_batch_is_brought_to_where_the_model_is():
    """The collator makes it in the machine's memory, the weights are on the GPU: here on meta, which also refuses."""

    class Model(nn.Linear):
        def forward(self, features: torch.Tensor, logits_to_keep: int) -> torch.Tensor:
            return super().forward(features)

    model = Model(4, 4, device="meta")
    kept = memory.kept_for_backward(model, {"features": torch.ones(2, 4), "logits_to_keep": 1})
    assert kept.outside == 2 * 4 * 4


@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("optimizer", ["adamw", "adamw_8bit"])
def test_trained_weights_and_optimizer_are_the_real_ones(tiny_config, settings, mode, optimizer):
    """The optimizer as the Trainer makes it, after a step."""
    train = settings(mode=mode, optimizer=optimizer)
    need = memory.training_need(tiny_config, train, torch.float32, bfloat16=False)
    model = open_tiny()[0]
    model.model.audio_tower.embed_positions.requires_grad_(False)
    model = model if mode == "full" else add_lora(model, train.lora)
    arguments = TrainingArguments(optim=training.OPTIMIZERS[optimizer], use_cpu=True, report_to=[])
    if optimizer == "adamw_8bit":
        loading.use_bitsandbytes()
    made = Trainer(model, arguments).create_optimizer()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in trained:
        weight.grad = torch.ones_like(weight)
    made.step()
    state = [value for values in made.state.values() for name, value in values.items() if "qmap" not in name]
    real = sum(value.nbytes for value in state if isinstance(value, torch.Tensor) and value.numel() > 1)
    assert need.gradients == sum(weight.nbytes for weight in trained)
    assert need.optimizer == pytest.approx(real, rel=0.01)


def test_published_mini_fits_on_the_cards_that_the_documentation_names(settings):
    """In bfloat16. A clip keeps 4.47 GB with 425 tokens, counted from two layers before; here it has 511."""
    every = memory.training_need(MINI, settings(), torch.bfloat16, True)
    assert every.clip == pytest.approx(4.47e9, rel=0.08)
    assert every.fitting(24 * GIB) == 1 and every.fitting(16 * GIB) == 0


def test_qlora_and_evaluation_of_the_published_mini_fit_into_8_gb(settings):
    small = settings(NARROW, mode="qlora", gradient_checkpointing=True)
    need = memory.training_need(MINI, small, torch.bfloat16, True)
    assert need.with_batch(8) < 8 * GIB and need.fitting(8 * GIB) >= 8
    assert memory.evaluation_bytes(MINI, torch.bfloat16, True, 8) < 8 * GIB


def test_small_24b_has_the_same_scopes_and_its_qlora_fits_on_a_24_gb_card(settings):
    """24.3 billion parameters, as its page on the Hub says. With gradient checkpointing."""
    model = memory.empty_model(SMALL, torch.bfloat16)
    assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(24.3e9, rel=0.01)
    assert matched_layers(model, ALL) == {"encoder": 32 * 6, "projector": 2, "decoder": 40 * 7}
    train = settings(NARROW, mode="qlora", gradient_checkpointing=True)
    need = memory.training_need(SMALL, train, torch.bfloat16, True)
    assert need.with_batch(1) < 17.5e9 and need.fitting(24 * GIB) >= 8 and need.fitting(12 * GIB) == 0


def test_whole_machine_is_what_a_cpu_has():
    assert loading.total_memory_bytes() > 1e9


def test_evaluation_grows_with_the_batch_and_shrinks_in_four_bits():
    """The 3B in bfloat16: 9.35 GB of weights, and less than 1 GB for each clip."""
    one, sixteen = (memory.evaluation_bytes(MINI, torch.bfloat16, False, batch) for batch in (1, 16))
    assert 9.35e9 < one < sixteen < one + 15e9
    assert 4e9 < memory.evaluation_bytes(MINI, torch.bfloat16, True, 1) < 5e9


@pytest.fixture(scope="module")
def trainee():
    return open_adapted(*ALL)


def size_with(trainee, clip, train: TrainParams, free_bytes: float, monkeypatch) -> int:
    monkeypatch.setattr(memory, "free_bytes", lambda _: free_bytes)
    model, collator = trainee
    return memory.largest_batch(model, lambda size: collator.training_batch([clip] * size), 24, train)


def test_batch_grows_with_the_memory_and_divides_the_update(trainee, demo_clips, settings, monkeypatch):
    sizes = [size_with(trainee, demo_clips[0], settings(), free, monkeypatch) for free in (0, 4e7, 1e8, 2e8, 1e10)]
    assert sizes[0] == 1 and sizes[-1] == 24
    assert sizes == sorted(sizes) and len(set(sizes)) >= 4
    assert all(24 % size == 0 for size in sizes)
    assert size_with(trainee, demo_clips[0], settings(gradient_checkpointing=True), 4e7, monkeypatch) > sizes[1]


def test_batch_that_is_found_fits(trainee, demo_clips, settings, monkeypatch):
    """The tensors that a step really keeps fit into the memory, and fill a fifth of it."""
    model, collator = trainee
    free = 1.5e8
    size = size_with(trainee, demo_clips[0], settings(), free, monkeypatch)
    kept = memory.kept_for_backward(model, collator.training_batch(demo_clips[:size])).total(False)
    assert 0.2 * free < kept < free


def test_batch_on_a_cpu_does_not_depend_on_what_else_runs(trainee, monkeypatch):
    """Half of the machine's memory in use: found on the old code, where the free memory decided."""
    before = memory.free_bytes(trainee[0])
    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(available=real.available // 2, free=0))
    assert memory.free_bytes(trainee[0]) == before == real.total - sum(w.nbytes for w in trainee[0].parameters())
