"""SparseModel in training: zeros stay zero, masks move on time, runs resume bit for bit."""

from __future__ import annotations

import copy
import io
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, fx, nn
from torch.optim import SGD, AdamW, Optimizer

from campfire_fx.api import sparsify
from campfire_fx.errors import CampfireError, RegimeError
from campfire_fx.masked import MaskedLayer
from campfire_fx.model import SparseModel
from tests.sparse_nets import IMAGE, OPTIMIZERS, PRUNED, Net, batches, train


def sparse(regime: str = "combined", **wishes: Any) -> SparseModel:
    torch.manual_seed(3)
    return sparsify(Net(), regime, **({"era": (1, 4), "example_inputs": IMAGE} | wishes))


def layer(model: nn.Module, name: str) -> MaskedLayer:
    found = model.get_submodule(name)
    assert isinstance(found, MaskedLayer)
    return found


def masks(model: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers() if name.endswith("mask")}


def assert_same_state(first: Any, second: Any) -> None:
    """Two state_dicts, however nested, are equal to the bit."""
    if isinstance(first, Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same_state(first[key], second[key])
    elif isinstance(first, list):
        for one, other in zip(first, second, strict=True):
            assert_same_state(one, other)
    else:
        assert first == second


def assert_zero_under_masks(model: nn.Module, optimizer: Optimizer) -> None:
    """Weights, gradients and optimizer state are zero under every mask."""
    for module in model.modules():
        if isinstance(module, MaskedLayer):
            dead, weight = ~module.mask, module.weight
            assert weight.grad is not None
            assert not weight[dead].any() and not weight.grad[dead].any()
            for name, state in optimizer.state[weight].items():
                if state.shape == weight.shape:
                    assert not state[dead].any(), name


class TestZerosStayZero:
    @pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
    def test_for_fifty_steps(self, make: Callable[[Any], Optimizer]) -> None:
        model = sparse(era=(0, 4))
        optimizer = make(model.parameters())
        model.attach(optimizer, steps_per_epoch=8)
        before = masks(model)
        for _ in train(model, optimizer, batches(50)):
            assert_zero_under_masks(model, optimizer)
            now = masks(model)
            assert all(bool((now[name] <= before[name]).all()) for name in now), "once zero, always zero"
            before = now
        assert model.sparsity().frozen and model.sparsity().true == pytest.approx(0.7, abs=0.02)
        for name in PRUNED:
            state = optimizer.state[layer(model, name).weight]
            assert any(value.any() for value in state.values() if value.dim()), "live weights go on training"

    def test_a_step_by_hand_does_the_same(self) -> None:
        attached, by_hand = sparse(), sparse()
        first, second = (SGD(m.parameters(), 0.05, momentum=0.9) for m in (attached, by_hand))
        attached.attach(first, steps_per_epoch=3)
        for _ in train(attached, first, batches(12)):
            pass
        for epoch in range(4):
            by_hand.epoch(epoch)
            for _ in train(by_hand, second, batches(12)[3 * epoch : 3 * epoch + 3]):
                by_hand.step()
        by_hand.epoch(4)
        # Momentum under the masks is the only difference: by hand the optimizer is not known.
        assert_same_state(masks(attached), masks(by_hand))
        weights = dict(by_hand.named_parameters())
        assert all(torch.equal(value, weights[name]) for name, value in attached.named_parameters())

    def test_without_masks_put_back_momentum_moves_them(self) -> None:
        """The reason for the hook; and the proof that the tests above can fail."""
        model = sparse(era=(0, 0))
        optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
        for _ in train(model, optimizer, batches(3)):
            pass
        model.epoch(0)
        for _ in train(model, optimizer, batches(1)):
            pass
        conv = layer(model, "conv1")
        assert conv.weight[~conv.mask].any()

    def test_detaching_stops_it(self) -> None:
        model = sparse(era=(0, 0))
        optimizer = SGD(model.parameters(), 0.05)
        model.attach(optimizer, steps_per_epoch=2).remove()
        for _ in train(model, optimizer, batches(5)):
            pass
        assert model.sparsity().epoch == 0


class TestMasksMove:
    def test_only_when_an_epoch_begins(self) -> None:
        model = sparse()
        optimizer = SGD(model.parameters(), 0.05)
        model.attach(optimizer, steps_per_epoch=3)
        moved, before = [], masks(model)
        for step in train(model, optimizer, batches(21)):
            if any(not torch.equal(now, before[name]) for name, now in masks(model).items()):
                moved.append(step + 1)
            before = masks(model)
        assert moved == [6, 9, 12]  # epochs 2, 3 and 4 of an era from 1 to 4

    @pytest.mark.parametrize("regime", ["combined", "window", "ck", "unstructured", "inter-epoch"])
    def test_computing_them_after_every_step_gives_the_same_run(self, regime: str) -> None:
        """Campfire, Algorithm 2, to the letter, against masks computed when the threshold moves."""
        letter, ours = sparse(regime), sparse(regime)
        first, second = (SGD(m.parameters(), 0.05, momentum=0.9, weight_decay=1e-3) for m in (letter, ours))
        letter.attach(first, steps_per_epoch=3)
        ours.attach(second, steps_per_epoch=3)
        for _ in train(letter, first, batches(18)):
            letter._training.course.reached.clear()  # every threshold counts as moved
            letter._advance()
        for _ in train(ours, second, batches(18)):
            pass
        assert ours.sparsity().true > 0.6
        assert_same_state(letter.state_dict(), ours.state_dict())
        assert_same_state(first.state_dict()["state"], second.state_dict()["state"])

    def test_by_eq_1_in_every_epoch(self) -> None:
        model = sparse("unstructured", era=(2, 12), sparsity=0.7)
        for epoch in range(15):
            model.epoch(epoch)
            due = 0.7 * (1 - (1 - min(max(epoch - 2, 0), 10) / 10) ** 3)
            assert model.sparsity().target == pytest.approx(due)
            assert model.sparsity().true == pytest.approx(due, abs=0.01)

    def test_never_back(self) -> None:
        model = sparse()
        model.epoch(4)
        before = masks(model)
        model.epoch(0)
        assert_same_state(masks(model), before)

    def test_finalize_jumps_to_the_end_and_freezes(self) -> None:
        model = sparse(era=(30, 50))
        assert model.finalize() is model
        record = model.sparsity()
        assert record.frozen and record.true == pytest.approx(0.7, abs=0.02) and record.target == pytest.approx(0.7)
        before = masks(model)
        model.epoch(60)
        assert_same_state(masks(model), before)

    def test_the_same_way_every_time(self) -> None:
        states = []
        for _ in range(2):
            model = sparse()
            optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
            model.attach(optimizer, steps_per_epoch=2)
            for _ in train(model, optimizer, batches(10)):
                pass
            states.append(model.state_dict())
        assert_same_state(*states)

    def test_with_a_line_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "campfire_fx.model"):
            sparse().finalize()
        assert "masks of 4 layers moved; sparsity 0.7" in caplog.text
        assert "(kernels 0.3" in caplog.text and "window 0.5" in caplog.text

    def test_weights_that_are_not_finite_stop_it(self) -> None:
        model = sparse()
        with torch.no_grad():
            layer(model, "conv2").weight[0, 0, 0, 0] = torch.nan
        with pytest.raises(RegimeError, match=r"masks at conv2: its weight is not finite.*Go back to a checkpoint"):
            model.epoch(4)
        assert all(bool(mask.all()) for mask in masks(model).values())


class TestDeadNorms:
    def trained(self, steps: int = 6, **wishes: Any) -> tuple[SparseModel, Optimizer]:
        model = sparse("filter", era=(0, 2), sparsity=0.5, **wishes)
        optimizer = AdamW(model.parameters(), 1e-2)
        model.attach(optimizer, steps_per_epoch=2)
        for _ in train(model, optimizer, batches(steps)):
            pass
        return model, optimizer

    def test_a_dead_channel_is_exactly_zero(self) -> None:
        model, optimizer = self.trained()
        dead = (layer(model, "conv1").live_filters() == 0).nonzero().flatten()
        assert len(dead) == 4
        norm, bias = model.get_submodule("bn1"), layer(model, "conv1").bias
        for tensor in (norm.weight, norm.bias, norm.running_mean, bias):
            assert isinstance(tensor, Tensor)
            assert not tensor[dead].any() and bool(tensor.any())
            for state in optimizer.state.get(tensor, {}).values():
                assert state.dim() == 0 or not state[dead].any()
        seen: list[Tensor] = []
        norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        for mode in (True, False):
            model.train(mode)(torch.randn(4, 3, 8, 8))
        assert not any(output[:, dead].any() for output in seen)

    def test_keep_leaves_the_norm_alone(self) -> None:
        model, _ = self.trained(dead_norm="keep")
        dead = layer(model, "conv1").live_filters() == 0
        norm = model.get_submodule("bn1")
        assert isinstance(norm.bias, Tensor) and bool(norm.bias[dead].all())

    def test_a_bias_without_a_norm_is_left_alone(self) -> None:
        model, _ = self.trained()
        point = layer(model, "point")
        dead = point.live_filters() == 0
        assert bool(dead.any()) and isinstance(point.bias, Tensor) and bool(point.bias[dead].all())

    def test_a_dense_state_dict_has_its_norms_zeroed_too(self) -> None:
        model, _ = self.trained()
        dense = Net()
        nn.init.ones_(dense.bn1.bias)
        model.load_state_dict(dense.state_dict())
        dead = layer(model, "conv1").live_filters() == 0
        assert not model.get_submodule("bn1").bias[dead].any()

    def test_a_norm_of_two_convolutions_dies_with_both(self) -> None:
        class Shared(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.stem = nn.Conv2d(3, 4, 1)
                self.a, self.b, self.norm = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)

            def forward(self, x: Tensor) -> Tensor:
                x = self.stem(x)
                return self.norm(self.a(x)) + self.norm(self.b(x))

        model = sparsify(Shared(), "ck", example_inputs=IMAGE)
        norm = model.get_submodule("norm")
        assert isinstance(norm.weight, Tensor)
        for name, rows in (("a", [0, 1]), ("b", [1, 2])):
            mask = torch.ones(4, 4, 3, 3)
            mask[rows] = 0
            model.set_mask(name, mask)
            if name == "a":
                assert bool(norm.weight.all()), "one convolution alone kills no channel of the norm"
        assert norm.weight.tolist() == [1, 0, 1, 1]
        assert [bool(layer(model, name).bias.detach()[1]) for name in "ab"] == [False, False]


class TestResume:
    @pytest.mark.parametrize("make", [OPTIMIZERS["nesterov"], OPTIMIZERS["adamw"]], ids=["nesterov", "adamw"])
    @pytest.mark.parametrize("regime", ["combined", "filter"])
    @pytest.mark.parametrize("stop", [7, 9])  # inside an epoch, and between two
    def test_in_mid_era_it_is_bit_for_bit_the_run_never_stopped(
        self, make: Callable[[Any], Optimizer], regime: str, stop: int
    ) -> None:
        data = batches(20)
        whole = sparse(regime)
        optimizer = make(whole.parameters())
        whole.attach(optimizer, steps_per_epoch=3)
        for step in train(whole, optimizer, data):
            if step + 1 == stop:
                file = io.BytesIO()
                torch.save({"model": whole.state_dict(), "optimizer": optimizer.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        resumed = sparsify(Net(), regime, era=(1, 4), example_inputs=IMAGE)  # other weights
        again = make(resumed.parameters())
        resumed.load_state_dict(saved["model"])
        again.load_state_dict(saved["optimizer"])
        resumed.attach(again, steps_per_epoch=3)
        for _ in train(resumed, again, data[stop:]):
            pass
        assert whole.sparsity().true > 0.3 and whole.sparsity().epoch == 6
        assert_same_state(resumed.state_dict(), whole.state_dict())
        assert_same_state(again.state_dict(), optimizer.state_dict())

    def test_a_finalized_model_and_hand_made_masks_come_back(self) -> None:
        model = sparse(era=(30, 50))
        model.set_mask("stem", torch.rand_like(layer(model, "stem").weight) > 0.5)
        model.finalize()
        other = sparse(era=(30, 50))
        other.load_state_dict(model.state_dict())
        assert other.sparsity() == model.sparsity()
        other.epoch(40)
        assert other.sparsity().layers == model.sparsity().layers


class TestStateDict:
    def test_a_dense_one_loads_under_the_original_names(self) -> None:
        dense, model = Net(), sparse()
        result = model.load_state_dict(dense.state_dict())
        assert not result.missing_keys and not result.unexpected_keys
        x = torch.randn(2, 3, 8, 8)
        assert torch.equal(model.eval()(x), dense.eval()(x))
        assert [name for name, _ in model.named_parameters()] == [name for name, _ in dense.named_parameters()]

    def test_a_dense_one_is_masked_by_a_sparse_model(self) -> None:
        dense, model = Net(), sparse().finalize()
        before = masks(model)
        model.load_state_dict(dense.state_dict())
        assert_same_state(masks(model), before)
        conv = layer(model, "conv1")
        assert torch.equal(conv.weight, dense.conv1.weight * conv.mask)

    def test_safetensors_hold_it(self, tmp_path: Path) -> None:
        model = sparse().finalize()
        save_file(model.state_dict(), tmp_path / "sparse.safetensors")
        other = sparse()
        other.load_state_dict(load_file(tmp_path / "sparse.safetensors"))
        assert_same_state(other.state_dict(), model.state_dict())

    def test_its_schedule_replaces_the_models(self) -> None:
        saved, model = sparse(sparsity=0.5, era=(2, 9)), sparse(sparsity=0.7, era=(1, 4))
        model.load_state_dict(saved.state_dict())
        record = model.sparsity()
        assert (record.final, record.era) == (0.5, (2, 9))
        assert model.finalize().sparsity().true == pytest.approx(0.5, abs=0.02)

    def test_one_of_another_regime_changes_nothing(self) -> None:
        model, other = sparse("combined"), sparse("ck").finalize()
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(RegimeError, match=r"saved under regime 'ck', this model has 'combined'. Build the model"):
            model.load_state_dict(other.state_dict())
        assert_same_state(model.state_dict(), before)

    def test_missing_weights_are_still_missing(self) -> None:
        state = Net().state_dict()
        del state["conv1.weight"]
        with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "conv1.weight"'):
            sparse().load_state_dict(state)


class TestCopies:
    @pytest.mark.parametrize("through", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_are_apart_unattached_and_go_on(self, through: Any) -> None:
        model = sparse()
        optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
        model.attach(optimizer, steps_per_epoch=3)
        for _ in train(model, optimizer, batches(8)):
            pass
        twin = through(model)
        assert isinstance(twin, SparseModel) and isinstance(twin, fx.GraphModule)
        assert_same_state(twin.state_dict(), model.state_dict())
        x = torch.randn(2, 3, 8, 8)
        assert torch.equal(twin.eval()(x), model.eval()(x))
        for _ in train(model, optimizer, batches(3)):
            pass
        assert (model.sparsity().epoch, twin.sparsity().epoch) == (3, 2), "the copy rides on no optimizer"
        fresh = SGD(twin.parameters(), 0.05, momentum=0.9)
        twin.attach(fresh, steps_per_epoch=3)
        for _ in train(twin, fresh, batches(8)):
            assert_zero_under_masks(twin, fresh)
        assert twin.sparsity().frozen

    def test_moving_to_another_precision_keeps_it_sparse(self) -> None:
        model = sparse().double()
        optimizer = SGD(model.parameters(), 0.05, momentum=0.9)
        model.attach(optimizer, steps_per_epoch=1)
        for _ in train(model, optimizer, [(x.double(), y) for x, y in batches(6)]):
            assert_zero_under_masks(model, optimizer)
        assert model.sparsity().true > 0.6

    def test_the_optimizer_does_not_keep_the_model_alive(self) -> None:
        import gc
        import weakref

        model = sparse()
        optimizer = SGD(model.parameters(), 0.05)
        model.attach(optimizer)
        gone = weakref.ref(layer(model, "conv1"))
        del model
        gc.collect()
        assert gone() is None
        optimizer.step()


class TestCompile:
    def test_no_graph_breaks_and_no_recompiles_when_masks_move(self) -> None:
        model = sparse()
        graphs: list[fx.GraphModule] = []

        def backend(graph: fx.GraphModule, _inputs: list[Tensor]) -> Callable[..., Any]:
            graphs.append(graph)
            return graph.forward

        compiled = torch.compile(model, fullgraph=True, backend=backend)
        optimizer = SGD(compiled.parameters(), 0.05, momentum=0.9)
        model.attach(optimizer, steps_per_epoch=2)
        for _ in train(compiled, optimizer, batches(10)):
            assert_zero_under_masks(model, optimizer)
        assert model.sparsity().frozen and len(graphs) == 1


class TestSetMask:
    def test_it_stays_as_it_was_put(self) -> None:
        model = sparse()
        mask = torch.rand_like(layer(model, "conv1").weight) > 0.3
        model.set_mask("conv1", mask)
        model.finalize()
        assert torch.equal(layer(model, "conv1").mask, mask)
        assert torch.equal(layer(model, "conv1").weight != 0, mask)
        assert {row.name: row.reason for row in model.sparsity().layers}["conv1"] == "its mask was set by hand"

    def test_numbers_count_as_kept_where_not_zero(self) -> None:
        model = sparse()
        model.set_mask("fc", torch.arange(60.0).reshape(5, 12) % 2)
        assert int(layer(model, "fc").mask.sum()) == 30

    def test_a_wrong_shape_is_refused(self) -> None:
        model = sparse()
        with pytest.raises(RegimeError, match=r"mask at conv1: its shape is \(8, 6\), the weight's is \(8, 6, 3, 3\)"):
            model.set_mask("conv1", torch.ones(8, 6))
        assert bool(layer(model, "conv1").mask.all())

    @pytest.mark.parametrize("name", ["conv3", "bn1", "conv1.weight", "nothing.here"])
    def test_a_path_without_a_mask_is_refused(self, name: str) -> None:
        with pytest.raises(RegimeError, match=f"layer '{name}': no masked layer has that path. Did you mean '"):
            sparse().set_mask(name, torch.ones(1))

    def test_layers_that_share_a_weight_share_the_mask(self) -> None:
        class Tied(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.stem, self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
                self.b.weight = self.a.weight

            def forward(self, x: Tensor) -> Tensor:
                return self.b(self.a(self.stem(x)))

        model = sparsify(Tied(), "ck", sparsity=0.5, example_inputs=IMAGE)
        for moved in (model, model.double()):  # which makes two masks of one
            moved.set_mask("b", torch.rand(4, 4, 3, 3) > 0.5)
            assert torch.equal(layer(moved, "a").mask, layer(moved, "b").mask)
            assert not layer(moved, "a").weight[~layer(moved, "b").mask].any()
        assert model.sparsity().layers[1].reason == "its mask was set by hand"
        assert [row.name for row in model.sparsity().layers] == ["stem", "a"], "counted once"


class TestRecord:
    def test_totals_are_the_sums_of_the_layers(self) -> None:
        model = sparse().finalize()
        record = model.sparsity()
        assert [row.name for row in record.layers] == ["stem", *PRUNED]
        pruned = [row for row in record.layers if row.name in PRUNED]
        zeros = {name: int((layer(model, name).weight == 0).sum()) for name in PRUNED}
        assert {row.name: row.zeros for row in pruned} == zeros
        assert record.zeros == sum(zeros.values())
        assert record.true == record.zeros / sum(row.weights for row in pruned)
        assert record.overall == record.zeros / sum(p.numel() for p in Net().parameters())
        kernels, window = record.shares
        spatial = [row for row in pruned if row.kernels < row.weights]
        assert 1 - (1 - kernels) * (1 - window) == pytest.approx(
            sum(row.zeros for row in spatial) / sum(row.weights for row in spatial)
        )

    def test_a_layer_tells_target_and_true(self) -> None:
        row = {row.name: row for row in sparse().finalize().sparsity().layers}["conv1"]
        assert (row.operation, row.shape, row.weights, row.kernels, row.filters) == ("Conv2d", (8, 6, 3, 3), 432, 48, 8)
        assert row.final == row.target == 0.7
        assert row.true == row.zeros / 432 == pytest.approx(0.7, abs=1 / 48)
        assert row.true == pytest.approx(1 - (1 - row.window) * (1 - row.dead_kernels / row.kernels))


class TestAttach:
    def test_an_optimizer_of_the_original_is_refused(self) -> None:
        with pytest.raises(
            RegimeError, match=r"attach: the SGD holds no parameter of this sparse model. Build it from"
        ):
            sparse().attach(SGD(Net().parameters(), 0.1))

    @pytest.mark.parametrize("steps", [0, -3, 2.5, True])
    def test_steps_that_are_no_count_are_refused(self, steps: Any) -> None:
        model = sparse()
        with pytest.raises(RegimeError, match=r"attach: steps_per_epoch=.* is not a count. Give len"):
            model.attach(SGD(model.parameters(), 0.1), steps)

    def test_only_one_optimizer_counts(self) -> None:
        model = sparse()
        convs = SGD([p for p in model.parameters() if p.dim() == 4], 0.1)
        rest = SGD([p for p in model.parameters() if p.dim() != 4], 0.1)
        model.attach(convs, steps_per_epoch=2)
        with pytest.raises(RegimeError, match="attach: the steps of another optimizer are counted already"):
            model.attach(rest, steps_per_epoch=2)
        model.attach(rest)
        for _ in range(2):
            convs.step()
            rest.step()
        assert model.sparsity().epoch == 1

    def test_attaching_again_replaces(self) -> None:
        model = sparse()
        optimizer = SGD(model.parameters(), 0.1)
        for _ in range(3):
            model.attach(optimizer, steps_per_epoch=2)
        for _ in range(2):
            optimizer.step()
        assert model.sparsity().epoch == 1

    @pytest.mark.parametrize("epoch", [-1, 1.5, "3", True, None])
    def test_an_epoch_that_is_none_is_refused(self, epoch: Any) -> None:
        with pytest.raises(RegimeError, match=r"is not an epoch. Give a whole number, counted from 0"):
            sparse().epoch(epoch)


def test_distributed_data_parallel_wraps_it(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        model, alone = sparse(), sparse()
        wrapped = nn.parallel.DistributedDataParallel(model)
        first, second = (SGD(m.parameters(), 0.05, momentum=0.9) for m in (wrapped, alone))
        model.attach(first, steps_per_epoch=2)
        alone.attach(second, steps_per_epoch=2)
        for _ in train(wrapped, first, batches(8)):
            assert_zero_under_masks(model, first)
        for _ in train(alone, second, batches(8)):
            pass
        assert_same_state({k.removeprefix("module."): v for k, v in wrapped.state_dict().items()}, alone.state_dict())
        fresh = nn.parallel.DistributedDataParallel(sparse())
        fresh.load_state_dict(wrapped.state_dict())
        assert_same_state(fresh.state_dict(), wrapped.state_dict())
        with pytest.raises(RegimeError, match="saved under regime 'combined', this model has 'ck'"):
            nn.parallel.DistributedDataParallel(sparse("ck")).load_state_dict(wrapped.state_dict())
    finally:
        torch.distributed.destroy_process_group()


def test_a_name_that_a_method_would_hide_is_refused() -> None:
    class Clash(Net):
        def __init__(self) -> None:
            super().__init__()
            self.report = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.report(super().forward(x))

    with pytest.raises(CampfireError, match="at report: SparseModel has a method of that name, which would hide it"):
        sparsify(Clash(), example_inputs=IMAGE)
