import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TASKS, task_module
from golden import golden_image, golden_weights, read_fact
from torch import nn

from mprnet import AblationMPRNet, MPRNet
from mprnet.model import layers
from mprnet.model.bands import memory_format

GOLDEN = read_fact("golden_forward.json")["cases"]


@pytest.fixture(scope="module")
def networks() -> dict[str, MPRNet]:
    networks = {}
    for task in TASKS:
        networks[task] = task_module(task, "MPRNet").MPRNet().eval()
        networks[task].load_state_dict(golden_weights(networks[task]))
    return networks


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{case['task']}-{case['seed']}")
@torch.inference_mode()
def test_every_stage_equals_the_published_network(case, networks):
    images = networks[case["task"]](golden_image(case))
    assert len(images) == len(case["stages"]) == 3
    for image, golden in zip(images, case["stages"], strict=True):
        np.testing.assert_allclose(image[:, :, ::16, ::16], golden["sample"], atol=1e-4)
        assert image.mean().item() == pytest.approx(golden["mean"], abs=1e-5)
        assert image.std(correction=0).item() == pytest.approx(golden["std"], abs=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_keys_and_shapes_equal_those_of_the_published_checkpoint(task, networks):
    published = read_fact(f"state_dict_{task.lower()}.json")
    ours = {key: list(value.shape) for key, value in networks[task].state_dict().items()}
    assert list(ours.items()) == list(published.items())


def test_parameter_counts(networks):
    assert {task: sum(p.numel() for p in networks[task].parameters()) for task in TASKS} == {
        "Deblurring": 20_127_073,
        "Denoising": 15_741_025,
        "Deraining": 3_637_249,
    }


@torch.inference_mode()
def test_fewer_stages_use_fewer_parameters(networks):
    """Table 7 counts only the U-Nets: 5.6 and 11.3 of 20.1 million parameters. The shallow features, the concatenating
    convolutions and a part of SAM run, too."""
    model = networks["Deblurring"]
    used: set[nn.Parameter] = set()
    hooks = [
        module.register_forward_hook(lambda module, *_: used.update(module.parameters(recurse=False)))
        for module in model.modules()
    ]
    counts, unets = [], []
    unet = {
        p for name in ("encoder", "decoder") for s in (1, 2) for p in getattr(model, f"stage{s}_{name}").parameters()
    }
    for stages in (1, 2, 3):
        used.clear()
        model(torch.rand(1, 3, 16, 16), stages=stages)
        counts.append(sum(p.numel() for p in used))
        unets.append(sum(p.numel() for p in used & unet))
    for hook in hooks:
        hook.remove()
    # Without the one parameter of PReLU: without gradients, its module is not called.
    assert counts == [5_754_816, 11_818_656, 20_127_072]
    assert [round(n / 1e6, 1) for n in unets[:2]] == [5.6, 11.3]


@torch.inference_mode()
def test_early_exit_equals_the_full_run(tiny):
    image = torch.rand(2, 3, 24, 40)
    full = tiny(image)
    for stages in (1, 2):
        early = tiny(image, stages=stages)
        assert len(early) == stages
        for a, b in zip(early, full[-stages:], strict=True):
            assert torch.equal(a, b)


@torch.inference_mode()
def test_a_batch_equals_single_images(tiny):
    images = torch.rand(3, 3, 32, 16)
    for together, alone in zip(tiny(images), zip(*[tiny(image[None]) for image in images], strict=True), strict=True):
        torch.testing.assert_close(together, torch.cat(alone), atol=1e-6, rtol=0)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("most", [1, 200, 1000, 5000, 10**6])
def test_large_results_of_upsampling_are_computed_in_bands(monkeypatch, layout, most):
    features = torch.rand(2, 3, 13, 8).to(memory_format=layout)
    expected = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
    monkeypatch.setattr(layers, "_MOST_ELEMENTS", most)
    sizes = []
    double = layers._double
    monkeypatch.setattr(layers, "_double", lambda x: sizes.append(4 * x.numel()) or double(x))
    with torch.inference_mode():
        result = layers.upsample_bilinear(features)
    assert torch.equal(result, expected)
    assert result.stride() == expected.stride()
    assert max(sizes) <= max(most, 3 * 4 * 2 * 3 * 8)  # three rows at least


@pytest.mark.parametrize(
    ("device", "dtype", "hip", "layout"),
    [
        ("cpu", torch.float32, None, torch.channels_last),
        ("cuda", None, None, torch.channels_last),
        ("cuda", torch.bfloat16, None, torch.channels_last),
        ("cuda", torch.float16, None, torch.channels_last),
        ("cuda", torch.float32, None, torch.contiguous_format),
        ("cuda", torch.bfloat16, "6.2", torch.contiguous_format),
        ("mps", torch.float16, None, torch.contiguous_format),
    ],
)
def test_every_device_has_its_memory_format(monkeypatch, device, dtype, hip, layout):
    monkeypatch.setattr(torch.version, "hip", hip)
    assert memory_format(torch.device(device), dtype) == layout


@torch.inference_mode()
def test_quarters_are_encoded_separately(tiny):
    """The encoder of stage 1 sees quarters, and its decoder sees halves."""
    image = torch.rand(1, 3, 32, 32)
    changed = image.clone()
    changed[:, :, :16, :16] = 1 - changed[:, :, :16, :16]
    before, after = tiny(image, stages=1)[0], tiny(changed, stages=1)[0]
    # The decoder joins left and right quarters. So the whole upper half may change, but not the lower half.
    assert not torch.equal(before[:, :, :16], after[:, :, :16])
    assert torch.equal(before[:, :, 16:], after[:, :, 16:])


@pytest.mark.parametrize(
    ("shape", "stages", "sentence"),
    [
        ((1, 3, 30, 32), 3, "multiples of 8, not 30x32"),
        ((1, 3, 0, 8), 3, "multiples of 8"),
        ((3, 32, 32), 3, r"\(N, 3, H, W\), not \(3, 32, 32\)"),
        ((1, 4, 32, 32), 3, r"not \(1, 4, 32, 32\)"),
        ((1, 3, 32, 32), 4, "stages 1 to 3, not 4"),
        ((1, 3, 32, 32), 0, "stages 1 to 3, not 0"),
    ],
)
def test_wrong_input_raises_a_clear_error(tiny, shape, stages, sentence):
    with pytest.raises(ValueError, match=sentence):
        tiny(torch.zeros(shape), stages=stages)


def test_gradient_reaches_every_parameter(tiny):
    sum(image.mean() for image in tiny(torch.rand(1, 3, 16, 16))).backward()
    assert all(p.grad is not None for p in tiny.parameters())


def test_one_prelu_is_shared(networks):
    assert sum(isinstance(module, nn.PReLU) for module in networks["Deblurring"].modules()) == 1


@pytest.mark.filterwarnings("ignore")
def test_compiles_as_one_graph(tiny):
    image = torch.rand(1, 3, 16, 24)
    compiled = torch.compile(tiny, fullgraph=True, backend="eager")
    with torch.inference_mode():
        for a, b in zip(compiled(image), tiny(image), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore")
def test_exports_with_free_batch_height_and_width(tiny):
    batch, height, width = (torch.export.Dim(name, min=2, max=512) for name in ("batch", "h", "w"))
    dims = {0: batch, 2: 8 * height, 3: 8 * width}
    exported = torch.export.export(tiny, (torch.rand(2, 3, 16, 24),), dynamic_shapes={"image": dims}, strict=False)
    module = exported.module()
    for shape in ((2, 3, 16, 16), (3, 3, 40, 16), (5, 3, 16, 24)):
        image = torch.rand(shape)
        for a, b in zip(module(image), tiny(image), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


FORMS = [
    (["unet"], False, False),
    (["orsnet"], False, False),
    (["unet", "unet"], False, False),
    (["orsnet", "orsnet"], False, False),
    (["unet", "orsnet"], False, False),
    (["unet", "unet", "orsnet"], False, False),
    (["unet", "unet", "orsnet"], False, True),
    (["unet", "unet", "orsnet"], True, False),
    (["unet", "unet", "orsnet"], True, True),
]


def build_form(subnetworks: list[str], sam: bool, csff: bool) -> MPRNet:
    torch.manual_seed(1)
    return AblationMPRNet(4, 2, 3, num_cab=2, reduction=2, subnetworks=subnetworks, sam=sam, csff=csff).eval()


def run_subnetwork(net: MPRNet, n: int, x: torch.Tensor) -> torch.Tensor:
    """Return the features of one stage, without CSFF."""
    if net.config["subnetworks"][n - 1] == "orsnet":
        return getattr(net, f"stage{n}_orsnet")(x)
    return getattr(net, f"stage{n}_decoder")(getattr(net, f"stage{n}_encoder")(x))[0]


@pytest.mark.parametrize("subnetworks", [["unet"], ["orsnet"]])
@torch.inference_mode()
def test_one_stage_sees_the_whole_image(subnetworks):
    net, image = build_form(subnetworks, False, False), torch.rand(2, 3, 16, 24)
    (restored,) = net(image)
    torch.testing.assert_close(restored, image + net.tail(run_subnetwork(net, 1, net.shallow_feat1(image))))


@torch.inference_mode()
def test_the_first_of_two_stages_sees_halves():
    """ORSNet runs on each half. Without SAM, the features are passed on as they are."""
    net, image = build_form(["orsnet", "orsnet"], False, False), torch.rand(1, 3, 32, 16)
    features = [run_subnetwork(net, 1, net.shallow_feat1(half)) for half in image.split(16, dim=2)]
    together = torch.cat(features, dim=2)
    image1 = image + net.tail1(together)
    second = net.concat12(torch.cat([net.shallow_feat2(image), together], dim=1))
    image2 = image + net.tail(run_subnetwork(net, 2, second))
    for ours, expected in zip(net(image), (image2, image1), strict=True):
        torch.testing.assert_close(ours, expected)


@torch.inference_mode()
def test_a_unet_encodes_its_patches_and_decodes_those_of_the_next_stage():
    net, image = build_form(["unet", "orsnet"], False, False), torch.rand(1, 3, 32, 16)
    pyramids = [net.stage1_encoder(net.shallow_feat1(half)) for half in image.split(16, dim=2)]
    decoded = net.stage1_decoder([torch.cat(level, dim=2) for level in zip(*pyramids, strict=True)])[0]
    torch.testing.assert_close(net(image, stages=1)[0], image + net.tail1(decoded))


@pytest.mark.parametrize(("subnetworks", "sam", "csff"), FORMS)
def test_gradients_reach_all_parameters_of_every_form(subnetworks, sam, csff):
    net = build_form(subnetworks, sam, csff).train()
    images = net(torch.rand(1, 3, 16, 16))
    assert len(images) == len(subnetworks)
    sum(image.square().mean() for image in images).backward()
    assert all(p.grad is not None for p in net.parameters())
    names = dict(net.named_modules())
    assert any(name.startswith("sam") for name in names) == sam
    assert any("csff" in name for name in names) == csff


@pytest.mark.parametrize(
    ("subnetworks", "csff", "sentence"),
    [([], False, "one to three"), (["cnn"], False, "one to three"), (["orsnet", "unet"], True, "csff")],
)
def test_invalid_forms_raise_a_clear_error(subnetworks, csff, sentence):
    with pytest.raises(ValueError, match=sentence):
        build_form(subnetworks, False, csff)
